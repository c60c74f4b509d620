package informer

import (
	"context"
	"errors"
	"io"
	"net/http"
)

// pipeTransport answers requests with a handler and without a network, so that
// time in a synctest bubble passes while one waits for the other.
type pipeTransport struct{ handler http.Handler }

var errConnectionClosed = errors.New("connection closed")

func (t *pipeTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithCancel(r.Context())
	reader, writer := io.Pipe()
	context.AfterFunc(ctx, func() { _ = writer.CloseWithError(ctx.Err()) })
	answer := &pipeAnswer{
		writer: writer, header: make(http.Header), begun: make(chan struct{}), gone: make(chan struct{}),
		response: &http.Response{Request: r, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, ContentLength: -1,
			Body: &pipeBody{PipeReader: reader, cancel: cancel}},
	}
	go answer.serve(t.handler, r.WithContext(ctx))
	select {
	case <-answer.begun:
		return answer.response, nil
	case <-answer.gone:
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
	writer      *io.PipeWriter
	header      http.Header
	response    *http.Response
	begun, gone chan struct{}
}

// serve runs the handler. One that panics with http.ErrAbortHandler breaks the
// connection.
func (a *pipeAnswer) serve(handler http.Handler, r *http.Request) {
	defer func() {
		switch v := recover(); v {
		case nil:
			a.WriteHeader(http.StatusOK)
			_ = a.writer.Close()
		case http.ErrAbortHandler:
			_ = a.writer.CloseWithError(errConnectionClosed)
			close(a.gone)
		default:
			panic(v)
		}
	}()
	handler.ServeHTTP(a, r)
}

func (a *pipeAnswer) Header() http.Header { return a.header }

func (a *pipeAnswer) WriteHeader(code int) {
	if a.response.StatusCode != 0 {
		return
	}
	a.response.StatusCode, a.response.Status = code, http.StatusText(code)
	a.response.Header = a.header.Clone()
	close(a.begun)
}

func (a *pipeAnswer) Write(p []byte) (int, error) {
	a.WriteHeader(http.StatusOK)
	return a.writer.Write(p)
}

func (a *pipeAnswer) Flush() { a.WriteHeader(http.StatusOK) }
