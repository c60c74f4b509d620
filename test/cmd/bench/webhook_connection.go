package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
)

// reviewServer is a server of reviews, as a client knows it.
type reviewServer struct {
	address string
	trusted *x509.CertPool
	// repeats says that its answers have the uid of the review.
	repeats bool
}

// reviewConnection sends reviews over one connection, one after the other, with
// little work: the client takes processor time from the server that is measured.
type reviewConnection struct {
	server   *reviewServer
	template *reviewTemplate
	// request is the whole request, header its part before the review.
	request []byte
	header  int
	conn    net.Conn
	reader  *bufio.Reader
	answer  [512]byte
}

// newReviewConnection writes the request as kube-apiserver does. Nothing is
// connected yet.
func newReviewConnection(server *reviewServer, template *reviewTemplate) *reviewConnection {
	header := fmt.Sprintf("POST /validate?timeout=1s HTTP/1.1\r\nHost: %s\r\nUser-Agent: kube-apiserver-admission\r\nContent-Length: %d\r\n"+
		"Accept: application/json, */*\r\nContent-Type: application/json\r\nAccept-Encoding: gzip\r\n\r\n", server.address, len(template.text))
	return &reviewConnection{
		server: server, template: template, request: append([]byte(header), template.text...), header: len(header),
		reader: bufio.NewReader(nil),
	}
}

// open connects, unless that has been done; ctx is for that alone. What waits for
// an answer ends with the server.
//
// kube-apiserver speaks HTTP/1.1 to every webhook that is not on its own
// loopback interface, so that its connections spread over replicas
// (hookClientConfig in k8s.io/apiserver/pkg/util/webhook).
func (c *reviewConnection) open(ctx context.Context) error {
	if c.conn != nil {
		return nil
	}
	dialer := tls.Dialer{Config: &tls.Config{RootCAs: c.server.trusted, NextProtos: []string{"http/1.1"}}}
	conn, err := dialer.DialContext(ctx, "tcp", c.server.address)
	if err != nil {
		return fmt.Errorf("connect to %s: %w", c.server.address, err)
	}
	c.conn = conn
	c.reader.Reset(conn)
	return nil
}

func (c *reviewConnection) close() {
	if c.conn == nil {
		return
	}
	c.conn.Close()
	c.conn = nil
}

// review sends a review of a pod and waits for the answer, which must allow it.
func (c *reviewConnection) review(ctx context.Context, pod, number int) error {
	if err := c.begin(ctx, pod, number, 0); err != nil {
		return err
	}
	return c.end()
}

// begin sends a review but for its last bytes.
func (c *reviewConnection) begin(ctx context.Context, pod, number, without int) error {
	if err := c.open(ctx); err != nil {
		return err
	}
	c.template.fill(c.request[c.header:], pod, number)
	return c.write(c.request[:len(c.request)-without])
}

func (c *reviewConnection) write(part []byte) error {
	if _, err := c.conn.Write(part); err != nil {
		return fmt.Errorf("send a review to %s: %w", c.server.address, err)
	}
	return nil
}

// end waits for the answer to a review that was sent.
func (c *reviewConnection) end() error {
	response, err := http.ReadResponse(c.reader, nil)
	if err != nil {
		return fmt.Errorf("read the answer of %s to a review: %w", c.server.address, err)
	}
	defer response.Body.Close()
	n, err := io.ReadFull(response.Body, c.answer[:])
	if !errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("read the answer of %s to a review: %d bytes, and %w", c.server.address, n, err)
	}
	if response.Close {
		c.close()
	}
	return c.check(response, c.answer[:n])
}

func (c *reviewConnection) check(response *http.Response, answer []byte) error {
	uid := c.template.uidOf(c.request[c.header:])
	if response.StatusCode != http.StatusOK || !bytes.Contains(answer, []byte(`"allowed":true`)) || c.server.repeats && !bytes.Contains(answer, uid) {
		return fmt.Errorf("the review %s was answered %s by %s: %s", uid, response.Status, c.server.address, answer)
	}
	return nil
}
