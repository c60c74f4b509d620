package informer

import (
	"context"
	"errors"
	"io"
	"net/http"
	"sync"
)

// pipeTransport answers requests with a handler and without a network, so that
// time in a synctest bubble passes while one waits for the other.
type pipeTransport struct{ handler http.Handler }

var errConnectionClosed = errors.New("connection closed")

func (t *pipeTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithCancel(r.Context())
	reader, writer := io.Pipe()
	context.AfterFunc(ctx, func() { _ = writer.CloseWithError(ctx.Err()) })
	answer := &pipeAnswer{writer: writer, header: make(http.Header), begun: make(chan *http.Response, 1)}
	go answer.serve(t.handler, r.WithContext(ctx))
	select {
	case response := <-answer.begun:
		if response != nil {
			response.Request, response.Body = r, &pipeBody{PipeReader: reader, cancel: cancel}
			return response, nil
		}
		cancel()
		return nil, errConnectionClosed
	case <-ctx.Done():
		cancel()
		return nil, ctx.Err()
	}
}

// pipeBody ends the handler's context when it is closed, as a server does when
// its client leaves.
type pipeBody struct {
	*io.PipeReader
	cancel context.CancelFunc
}

func (b *pipeBody) Close() error {
	b.cancel()
	return b.PipeReader.Close()
}

type pipeAnswer struct {
	writer *io.PipeWriter
	header http.Header
	// begun gets the response once, nil where the connection breaks before.
	begun chan *http.Response
	once  sync.Once
}

// serve runs the handler. One that panics with http.ErrAbortHandler breaks the
// connection.
func (a *pipeAnswer) serve(handler http.Handler, r *http.Request) {
	defer func() {
		if v := recover(); v == http.ErrAbortHandler {
			_ = a.writer.CloseWithError(errConnectionClosed)
			a.once.Do(func() { a.begun <- nil })
		} else if v != nil {
			panic(v)
		}
	}()
	handler.ServeHTTP(a, r)
	a.WriteHeader(http.StatusOK)
	_ = a.writer.Close()
}

func (a *pipeAnswer) Header() http.Header { return a.header }

func (a *pipeAnswer) WriteHeader(code int) {
	a.once.Do(func() {
		a.begun <- &http.Response{StatusCode: code, Status: http.StatusText(code), Header: a.header.Clone(), Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, ContentLength: -1}
	})
}

func (a *pipeAnswer) Write(p []byte) (int, error) {
	a.WriteHeader(http.StatusOK)
	return a.writer.Write(p)
}

func (a *pipeAnswer) Flush() { a.WriteHeader(http.StatusOK) }
