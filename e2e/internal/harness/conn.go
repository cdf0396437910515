package harness

import (
	"net"
	"sync"
)

// serverListener is a listener whose connections are not read while the backend stalls. Its end
// is theirs too: a server waits for those that it has only begun to greet.
type serverListener struct {
	net.Listener
	ending
	backend *Backend
}

// Accept implements net.Listener.
func (l *serverListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	c := &serverConn{Conn: conn, listener: l, ending: newEnding()}
	l.backend.mu.Lock()
	defer l.backend.mu.Unlock()
	l.backend.conns[connName(conn.RemoteAddr(), conn.LocalAddr())] = c // in the place of one that has ended
	return c, nil
}

// Close implements net.Listener.
func (l *serverListener) Close() error {
	l.end()
	return l.Listener.Close()
}

type serverConn struct {
	net.Conn
	ending
	listener *serverListener

	wasReset bool // guarded by the backend's mu
}

// reset ends the connection in a way that the peer notices at once. Requires the backend's mu
// held.
func (c *serverConn) reset() {
	if c.wasReset {
		return
	}
	c.wasReset = true
	if tcp, ok := c.Conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0) // it fails only if the connection has ended
	}
	_ = c.Close()
}

// Read implements net.Conn. A Read that is under way when the backend begins to stall returns
// what comes next.
func (c *serverConn) Read(p []byte) (int, error) {
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
func (c *serverConn) Close() error {
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
