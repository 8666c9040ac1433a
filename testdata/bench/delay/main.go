// Command delay passes TCP connections on to a server as over a distant link: it
// adds a round trip's time and bounds the bytes of each second, for all connections
// together and for each direction by itself.
//
// Usage: delay [-rtt TIME] [-rate BITS] SERVER
//
// It prints the address that it listens on, on loopback, and runs until it is ended.
// A connection is established by one round trip more, as by TCP's handshake. There is
// no loss and no slow start, so that a real link is slower for short connections.
package main

import (
	"flag"
	"fmt"
	"net"
	"os"
	"sync"
	"time"
)

func main() {
	rtt := flag.Duration("rtt", 20*time.Millisecond, "time of a round trip")
	rate := flag.Int64("rate", 100_000_000, "bits a second, each way")
	flag.Parse()
	if flag.NArg() != 1 || *rate <= 0 || *rtt < 0 {
		fmt.Fprintln(os.Stderr, "usage: delay [-rtt TIME] [-rate BITS] SERVER")
		os.Exit(2)
	}
	if err := serve(flag.Arg(0), *rtt, *rate); err != nil {
		fmt.Fprintln(os.Stderr, "delay: error:", err)
		os.Exit(1)
	}
}

func serve(server string, rtt time.Duration, rate int64) error {
	listener, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		return err
	}
	fmt.Println(listener.Addr())
	up, down := &link{rate: rate, delay: rtt / 2}, &link{rate: rate, delay: rtt / 2}
	for {
		client, err := listener.AcceptTCP()
		if err != nil {
			return err
		}
		go func() {
			if err := connect(client, server, rtt, up, down); err != nil {
				fmt.Fprintln(os.Stderr, "delay:", err)
			}
		}()
	}
}

// connect joins a client and the server until both directions have ended.
func connect(client *net.TCPConn, server string, rtt time.Duration, up, down *link) error {
	defer client.Close()
	address, err := net.ResolveTCPAddr("tcp", server)
	if err != nil {
		return err
	}
	conn, err := net.DialTCP("tcp", nil, address)
	if err != nil {
		return fmt.Errorf("connecting to the server: %w", err)
	}
	defer conn.Close()
	var both sync.WaitGroup
	both.Go(func() { up.carry(conn, client, time.Now().Add(rtt)) })
	both.Go(func() { down.carry(client, conn, time.Time{}) })
	both.Wait()
	return nil
}

// link is one direction.
type link struct {
	// rate is in bits a second.
	rate  int64
	delay time.Duration

	mu sync.Mutex
	// free is when the last byte that was taken has been sent.
	free time.Time
}

// segment is what is sent at a time: a small part of what the rate allows between
// two wake-ups of a process.
const segment = 8 << 10

// late is how far behind the link may fall without losing its time: a sender that
// wakes late finds what others would have had queued.
const late = 10 * time.Millisecond

// send takes the link for n bytes and returns when they are all on their way.
func (l *link) send(n int) time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	if earliest := time.Now().Add(-late); l.free.Before(earliest) {
		l.free = earliest
	}
	l.free = l.free.Add(time.Duration(int64(n) * 8 * int64(time.Second) / l.rate))
	return l.free
}

// piece is on its way until due; an empty one ends the stream.
type piece struct {
	data []byte
	due  time.Time
}

// carry moves bytes from one end to the other, none of them before open.
func (l *link) carry(to, from *net.TCPConn, open time.Time) {
	// What is on its way at once is bounded by rate and delay, the queue by more.
	way := make(chan piece, 1024)
	go func() {
		defer close(way)
		buf := make([]byte, segment)
		for {
			n, err := from.Read(buf)
			if n > 0 {
				time.Sleep(time.Until(open))
				sent := l.send(n)
				way <- piece{append([]byte(nil), buf[:n]...), latest(sent, time.Now()).Add(l.delay)}
				time.Sleep(time.Until(sent))
			}
			if err != nil {
				way <- piece{due: time.Now().Add(l.delay)}
				return
			}
		}
	}()
	for p := range way {
		time.Sleep(time.Until(p.due))
		if len(p.data) == 0 {
			_ = to.CloseWrite()
			continue
		}
		if _, err := to.Write(p.data); err != nil {
			// The reader must come to its end.
			from.Close()
			go drain(way)
			return
		}
	}
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func drain(way <-chan piece) {
	for range way {
	}
}
