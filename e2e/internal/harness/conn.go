package harness

import (
	"net"
	"sync"
)

// stalling is a listener whose connections are not read while the backend stalls. Its end is
// theirs too: a server waits for those that it has only begun to greet.
type stalling struct {
	net.Listener
	ending
	backend *Backend
}

// Accept implements net.Listener.
func (l *stalling) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &stallingConn{Conn: conn, listener: l, ending: newEnding()}, nil
}

// Close implements net.Listener.
func (l *stalling) Close() error {
	l.end()
	return l.Listener.Close()
}

type stallingConn struct {
	net.Conn
	ending
	listener *stalling
}

// Read implements net.Conn. A Read that is under way when the backend begins to stall returns
// what comes next.
func (c *stallingConn) Read(p []byte) (int, error) {
	b := c.listener.backend
	for {
		b.mu.Lock()
		g := b.gate
		b.mu.Unlock()
		if !g.stalls {
			return c.Conn.Read(p)
		}
		select {
		case <-g.opened:
		case <-c.ended:
			return 0, net.ErrClosed
		case <-c.listener.ended:
			return 0, net.ErrClosed
		}
	}
}

// Close implements net.Conn.
func (c *stallingConn) Close() error {
	c.end()
	return c.Conn.Close()
}

// ending is the end of something that may be ended several times.
type ending struct {
	end   func()
	ended chan struct{} // closed by end
}

func newEnding() ending {
	ended := make(chan struct{})
	return ending{end: sync.OnceFunc(func() { close(ended) }), ended: ended}
}
