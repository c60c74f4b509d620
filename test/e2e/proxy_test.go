// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"testing"

	"k8s.io/client-go/rest"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// proxy stands before an API server as one of its users, and can be taken away
// while the server and its other clients go on.
type proxy struct {
	address string
	handler *httputil.ReverseProxy
	// onRequest sees each request before it is passed on, may change it, and may
	// keep it waiting.
	onRequest func(*http.Request)

	server *http.Server
	served chan struct{}
}

// newProxy is one that is up.
func newProxy(t *testing.T, p *plane, user string, onRequest func(*http.Request)) *proxy {
	t.Helper()
	config, err := p.Config(user)
	if err != nil {
		t.Fatal(err)
	}
	target, err := url.Parse(config.Host)
	if err != nil {
		t.Fatal(err)
	}
	tls, err := rest.TLSConfigFor(config)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{TLSClientConfig: tls}
	x := &proxy{address: "127.0.0.1:0", onRequest: onRequest}
	x.handler = &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(target)
			// Clients send no token where there is no TLS.
			r.Out.Header.Set("Authorization", "Bearer "+config.BearerToken)
		},
		Transport: transport,
		// A watch's events do not wait for more of them.
		FlushInterval: -1,
		ErrorHandler:  func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) },
	}
	x.up(t)
	t.Cleanup(func() { x.down(); transport.CloseIdleConnections() })
	return x
}

// up serves, on the port of the last time.
func (x *proxy) up(t *testing.T) {
	t.Helper()
	listener, err := net.Listen("tcp", x.address)
	if err != nil {
		t.Fatal(err)
	}
	x.address = listener.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	server := &http.Server{
		Handler: x,
		// What onRequest keeps waiting ends with the server.
		BaseContext: func(net.Listener) context.Context { return ctx },
	}
	served := make(chan struct{})
	x.server, x.served = server, served
	go func() {
		defer close(served)
		defer cancel()
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	}()
}

// down closes the port and cuts every connection.
func (x *proxy) down() {
	if x.server == nil {
		return
	}
	_ = x.server.Close()
	<-x.served
	x.server = nil
}

// ServeHTTP passes a request on.
func (x *proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if x.onRequest != nil {
		x.onRequest(r)
	}
	x.handler.ServeHTTP(w, r)
}

// kubeconfig writes one that leads to the proxy, which knows the user.
func (x *proxy) kubeconfig(t *testing.T) string {
	t.Helper()
	return writeKubeconfig(t, &clientcmdapi.Cluster{Server: "http://" + x.address}, &clientcmdapi.AuthInfo{})
}

// isList tells what is asked for.
func isList(r *http.Request) bool {
	return r.URL.Query().Has("limit") && !r.URL.Query().Has("watch")
}
