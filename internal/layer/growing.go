package layer

import (
	"context"
	"io"
	"os"
	"sync"
)

// Growing is the blob of a layer that is being written. What there is of it can
// already be read, so that it is on its way to a registry before it is complete.
type Growing struct {
	file *os.File

	mu sync.Mutex
	// size is how much of file can be read, err the failure that ended the writing.
	size    int64
	written *Written
	err     error
	// changed is closed, and another one made, when any of these changes.
	changed chan struct{}
}

func newGrowing(f *os.File) *Growing { return &Growing{file: f, changed: make(chan struct{})} }

// Write implements io.Writer: the blob grows.
func (g *Growing) Write(p []byte) (int, error) {
	n, err := g.file.Write(p)
	g.change(func() { g.size += int64(n) })
	return n, err
}

// end tells that the blob is complete, or will never be.
func (g *Growing) end(w *Written, err error) { g.change(func() { g.written, g.err = w, err }) }

func (g *Growing) change(do func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	do()
	close(g.changed)
	g.changed = make(chan struct{})
}

// wait waits until the blob has more than n bytes or has ended, and returns how many
// it has; then written or the error is set if it has ended.
func (g *Growing) wait(ctx context.Context, n int64) (size int64, written *Written, err error) {
	for {
		g.mu.Lock()
		size, written, err = g.size, g.written, g.err
		changed := g.changed
		g.mu.Unlock()
		if size > n || written != nil || err != nil {
			return size, written, err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return size, nil, context.Cause(ctx)
		}
	}
}

// Complete waits for the end of the layer. Its error is that of [Write].
func (g *Growing) Complete(ctx context.Context) (*Written, error) {
	_, w, err := g.wait(ctx, 1<<63-1)
	return w, err
}

// Open returns the blob from its start. A read waits for bytes that are to come, and
// ends with ctx.
func (g *Growing) Open(ctx context.Context) (io.ReadCloser, error) {
	return io.NopCloser(&growingReader{ctx: ctx, g: g}), nil
}

type growingReader struct {
	ctx context.Context
	g   *Growing
	off int64
}

// Read implements io.Reader.
func (r *growingReader) Read(p []byte) (int, error) {
	size, _, err := r.g.wait(r.ctx, r.off)
	if err != nil {
		return 0, err
	}
	if r.off == size {
		return 0, io.EOF
	}
	n, err := r.g.file.ReadAt(p[:min(int64(len(p)), size-r.off)], r.off)
	r.off += int64(n)
	return n, err
}
