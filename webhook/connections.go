package webhook

import (
	"log"
	"net"
	"sync"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
)

// maxConnections is how many there may be at a time. Three API servers that
// handle as many writes as they do by default, 200 each, leave room for more
// than 1,000 that are slow. Each of these takes 60 KiB of memory and a file, and
// at most 120 KiB.
const maxConnections = 2000

// limited is a listener that closes connections beyond its limit at once. Had
// they to wait for others to end, as golang.org/x/net/netutil does it, API
// servers would wait for their timeout at each write.
type limited struct {
	net.Listener
	limit   int64
	open    atomic.Int64
	refused prometheus.Counter
	log     *log.Logger
}

func newLimited(listener net.Listener, registerer prometheus.Registerer, log *log.Logger) *limited {
	l := &limited{Listener: listener, limit: maxConnections, log: log, refused: prometheus.NewCounter(prometheus.CounterOpts{
		Name: "labelstream_webhook_connections_refused_total",
		Help: "Connections to the webhook that were closed at once, since too many were open.",
	})}
	registerer.MustRegister(l.refused, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "labelstream_webhook_connections",
		Help: "Connections to the webhook that are open.",
	}, valueOf(&l.open)))
	return l
}

// Accept implements net.Listener.
func (l *limited) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if l.open.Add(1) <= l.limit {
			return &counted{Conn: c, leave: sync.OnceFunc(func() { l.open.Add(-1) })}, nil
		}
		l.open.Add(-1)
		l.refused.Inc()
		l.log.Printf("closed the connection of %s: %d are open", c.RemoteAddr(), l.limit)
		_ = c.Close()
	}
}

// counted is a connection that is counted until it is closed.
type counted struct {
	net.Conn
	leave func()
}

// Close implements net.Conn.
func (c *counted) Close() error {
	defer c.leave()
	return c.Conn.Close()
}
