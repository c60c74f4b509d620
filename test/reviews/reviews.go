// SPDX-License-Identifier: Apache-2.0

// Package reviews sends AdmissionReviews as kube-apiserver does, and measures how
// long the answers take. It works little for each: a client takes processor time
// from the server that is measured on the same machine.
package reviews

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	_ "embed" // the review
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"runtime"
	"slices"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"
)

const (
	// connections are at work at a time. kube-apiserver keeps 25 idle ones to a
	// host.
	connections = 32
	// reviewedPods are created again and again, each time with another value of a
	// label.
	reviewedPods = 2000
)

// Client sends reviews to one server. Its connections stay open until it is
// closed.
type Client struct {
	connections []*connection
	sent        atomic.Int64
}

// New makes a client of the server at host and port, which has a certificate that
// is trusted. echoesUID says that its answers must have the review's uid.
func New(address string, trusted *x509.CertPool, echoesUID bool) *Client {
	c := &Client{}
	for range connections {
		c.connections = append(c.connections, newConnection(address, trusted, echoesUID))
	}
	return c
}

// Sent is how many reviews have been begun.
func (c *Client) Sent() int { return int(c.sent.Load()) }

func (c *Client) Close() {
	for _, one := range c.connections {
		one.close()
	}
}

func (c *Client) one(ctx context.Context, i int) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	number := int(c.sent.Add(1))
	return c.connections[i].review(ctx, number%reviewedPods, number)
}

// Saturate sends reviews over all connections for so long, each as soon as the
// one before is answered.
func (c *Client) Saturate(ctx context.Context, duration time.Duration) error {
	until := time.Now().Add(duration)
	all, ctx := errgroup.WithContext(ctx)
	for i := range c.connections {
		all.Go(func() error {
			for time.Now().Before(until) {
				if err := c.one(ctx, i); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return all.Wait()
}

// Pace sends so many reviews, one at each interval, and returns how long each
// took from the time at which it was due: also what waited for a connection that
// was not free, which a client that waits would not notice.
func (c *Client) Pace(ctx context.Context, reviews int, interval time.Duration) ([]time.Duration, error) {
	due := make(chan time.Time, reviews)
	took := make([][]time.Duration, len(c.connections))
	all, ctx := errgroup.WithContext(ctx)
	for i := range c.connections {
		all.Go(func() error {
			for at := range due {
				if err := c.one(ctx, i); err != nil {
					return err
				}
				took[i] = append(took[i], time.Since(at))
			}
			return nil
		})
	}
	all.Go(func() error { return tick(ctx, due, reviews, interval) })
	err := all.Wait()
	return slices.Concat(took...), err
}

// tick says when each review is due, and closes the channel after the last or
// when ctx ends.
func tick(ctx context.Context, due chan<- time.Time, reviews int, interval time.Duration) error {
	// Timers of the runtime may be late by a millisecond, more than what is
	// measured. The kernel's are not.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer close(due)
	begun := time.Now()
	for i := range reviews {
		at := begun.Add(time.Duration(i) * interval)
		for wait := time.Until(at); wait > 0; wait = time.Until(at) {
			rest := syscall.NsecToTimespec(int64(wait))
			// Signals end it early, so it is asked again.
			_ = syscall.Nanosleep(&rest, nil)
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		due <- at
	}
	return nil
}

// reviewText is a review of the creation of a pod as kube-apiserver writes it: in
// one line, and the object with its defaults and the name that was made for it.
// What differs from one review to the next are digits, at the marks: the pod's
// number in its name, the review's in its uid and in a label's value.
//
//go:embed review.json
var reviewText []byte

const (
	nameMark  = "NNNNN"
	uidMark   = "UUUUUUUUUUUU"
	valueMark = "VVVVVVVVVVVV"
	uidLength = 36 // the mark is its end
)

// connection sends reviews, one after the other, with little work: the client
// takes processor time from the server that is measured.
type connection struct {
	address   string
	trusted   *x509.CertPool
	echoesUID bool
	// request is the whole request; pod and number are where their digits stand.
	request     []byte
	pod, number [][]byte
	uid         []byte
	conn        net.Conn
	reader      *bufio.Reader
	answer      [512]byte
}

// newConnection writes the request as kube-apiserver does. Nothing is connected
// yet.
func newConnection(address string, trusted *x509.CertPool, echoesUID bool) *connection {
	header := fmt.Sprintf("POST /validate?timeout=1s HTTP/1.1\r\nHost: %s\r\nUser-Agent: kube-apiserver-admission\r\nContent-Length: %d\r\n"+
		"Accept: application/json, */*\r\nContent-Type: application/json\r\nAccept-Encoding: gzip\r\n\r\n", address, len(reviewText))
	c := &connection{address: address, trusted: trusted, echoesUID: echoesUID, request: append([]byte(header), reviewText...), reader: bufio.NewReader(nil)}
	c.pod = marked(c.request, nameMark)
	c.number = append(marked(c.request, uidMark), marked(c.request, valueMark)...)
	end := bytes.Index(c.request, []byte(uidMark)) + len(uidMark)
	c.uid = c.request[end-uidLength : end]
	return c
}

func marked(text []byte, mark string) [][]byte {
	return regexp.MustCompile(mark).FindAll(text, -1)
}

// open connects, unless that has been done.
//
// kube-apiserver speaks HTTP/1.1 to every webhook that is not on its own
// loopback interface, so that its connections spread over replicas
// (hookClientConfig in k8s.io/apiserver/pkg/util/webhook).
func (c *connection) open(ctx context.Context) error {
	if c.conn != nil {
		return nil
	}
	dialer := tls.Dialer{Config: &tls.Config{RootCAs: c.trusted, NextProtos: []string{"http/1.1"}}}
	conn, err := dialer.DialContext(ctx, "tcp", c.address)
	if err != nil {
		return fmt.Errorf("connect to %s: %w", c.address, err)
	}
	c.conn = conn
	c.reader.Reset(conn)
	return nil
}

func (c *connection) close() {
	if c.conn != nil {
		c.conn.Close()
		c.conn = nil
	}
}

// review sends a review of a pod and waits for the answer, which must allow it.
func (c *connection) review(ctx context.Context, pod, number int) error {
	if err := c.open(ctx); err != nil {
		return err
	}
	for _, digits := range c.pod {
		copy(digits, fmt.Sprintf("%0*d", len(digits), pod))
	}
	for _, digits := range c.number {
		copy(digits, fmt.Sprintf("%0*d", len(digits), number))
	}
	if _, err := c.conn.Write(c.request); err != nil {
		return fmt.Errorf("send a review to %s: %w", c.address, err)
	}
	response, err := http.ReadResponse(c.reader, nil)
	if err != nil {
		return fmt.Errorf("read the answer of %s to a review: %w", c.address, err)
	}
	defer response.Body.Close()
	n, err := io.ReadFull(response.Body, c.answer[:])
	if !errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("read the answer of %s to a review: %d bytes, and %w", c.address, n, err)
	}
	answer := c.answer[:n]
	if response.StatusCode != http.StatusOK || !bytes.Contains(answer, []byte(`"allowed":true`)) || c.echoesUID && !bytes.Contains(answer, c.uid) {
		return fmt.Errorf("the review %s was answered %s by %s: %s", c.uid, response.Status, c.address, answer)
	}
	return nil
}
