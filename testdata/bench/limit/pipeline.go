package main

import (
	"bufio"
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"runtime"
	"slices"
	"sync"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/klauspost/readahead"
	"golang.org/x/sync/errgroup"
)

// chunk is how many inflated bytes go from one stage to the next at a time.
const chunk = 256 << 10

// output is the written blob.
type output struct {
	digest string
	size   int64
}

// squash runs all stages at once: the layers are read, checked and inflated beside
// each other, the largest first, and one encoder takes a share of each.
func squash(ctx context.Context, src source, blobs []blob, o options) (output, error) {
	g, ctx := errgroup.WithContext(ctx)
	feed := &feed{amount: o.amount, to: make(chan []byte, queued), free: make(chan []byte, queued)}
	slices.SortStableFunc(blobs, func(a, b blob) int { return cmp.Compare(b.size, a.size) })
	g.Go(func() error {
		defer close(feed.to)
		layers, ctx := errgroup.WithContext(ctx)
		layers.SetLimit(max(4, runtime.GOMAXPROCS(0)))
		for _, b := range blobs {
			layers.Go(func() error {
				if err := inflate(ctx, src, b, feed); err != nil {
					return fmt.Errorf("reading layer %s: %w", b.digest, err)
				}
				return nil
			})
		}
		return errors.Join(layers.Wait(), feed.check())
	})
	pr, pw := io.Pipe()
	var out output
	g.Go(func() error {
		var err error
		out, err = encode(feed, pw, o)
		return errors.Join(err, pw.CloseWithError(err))
	})
	var end func(string) error
	g.Go(func() (err error) {
		end, err = upload(ctx, o.target, pr)
		return errors.Join(err, pr.CloseWithError(err))
	})
	if err := g.Wait(); err != nil {
		return output{}, err
	}
	return out, end(out.digest)
}

// feed hands a share of the inflated bytes to the encoder.
type feed struct {
	amount
	to chan []byte
	// free are buffers to be used again.
	free chan []byte

	mu          sync.Mutex
	seen, taken int64
}

// queued is how many chunks may wait for the encoder, so that it never waits for one.
const queued = 64

// buffer returns a buffer of a chunk.
func (f *feed) buffer() []byte {
	select {
	case b := <-f.free:
		return b[:chunk]
	default:
		return make([]byte, chunk)
	}
}

// release gives a buffer back.
func (f *feed) release(b []byte) {
	select {
	case f.free <- b:
	default:
	}
}

// offer takes of p what makes the share right, in the order of its arrival.
func (f *feed) offer(ctx context.Context, p []byte) error {
	f.mu.Lock()
	f.seen += int64(len(p))
	due := f.live
	if f.seen < f.inflated {
		due = int64(float64(f.live) * float64(f.seen) / float64(f.inflated))
	}
	n := min(max(due-f.taken, 0), int64(len(p)))
	f.taken += n
	f.mu.Unlock()
	if n == 0 {
		return nil
	}
	b := f.buffer()
	select {
	case f.to <- b[:copy(b, p[:n])]:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// check tells whether the report was one of this image.
func (f *feed) check() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.seen != f.inflated || f.taken != f.live {
		return fmt.Errorf("inflated %d bytes and took %d, the report says %d and %d", f.seen, f.taken, f.inflated, f.live)
	}
	return nil
}

// inflate reads a layer, verifies both of its digests and offers its bytes.
func inflate(ctx context.Context, src source, b blob, f *feed) (err error) {
	rc, err := src.open(ctx, b.digest)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, rc.Close()) }()
	stored, plain := sha256.New(), sha256.New()
	raw, err := readahead.NewReaderSize(io.TeeReader(rc, stored), 4, chunk/2)
	if err != nil {
		return err
	}
	br := bufio.NewReaderSize(raw, chunk/2)
	tar, err := decoder(br)
	if err != nil {
		return err
	}
	ahead, err := readahead.NewReadCloserSize(tar, 4, chunk)
	if err != nil {
		return err
	}
	defer ahead.Close()
	buf := make([]byte, chunk)
	for err == nil {
		var n int
		n, err = io.ReadFull(ahead, buf)
		plain.Write(buf[:n])
		if offerErr := f.offer(ctx, buf[:n]); offerErr != nil {
			return offerErr
		}
	}
	if err != io.EOF && err != io.ErrUnexpectedEOF {
		return err
	}
	// Without io.WriterTo, which readahead has and which minds being at its end.
	if _, err := io.Copy(io.Discard, struct{ io.Reader }{br}); err != nil {
		return err
	}
	if got := digest(stored); got != b.digest {
		return fmt.Errorf("it has the digest %s", got)
	}
	if got := digest(plain); got != b.diffID {
		return fmt.Errorf("it has the diffID %s instead of %s", got, b.diffID)
	}
	return nil
}

// decoder returns the uncompressed stream of a layer, by the bytes that start it.
func decoder(r *bufio.Reader) (io.ReadCloser, error) {
	head, err := r.Peek(4)
	if err != nil {
		return nil, err
	}
	switch {
	case head[0] == 0x1f && head[1] == 0x8b:
		return gzip.NewReader(r)
	case string(head) == "\x28\xb5\x2f\xfd":
		d, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true))
		if err != nil {
			return nil, err
		}
		return d.IOReadCloser(), nil
	}
	return io.NopCloser(r), nil
}

// encode compresses what comes into w and hashes both sides.
func encode(from *feed, w io.Writer, o options) (output, error) {
	stored, plain := &counter{h: sha256.New(), w: w}, sha256.New()
	buffered := bufio.NewWriterSize(stored, chunk)
	c, err := newEncoder(buffered, o)
	if err != nil {
		return output{}, err
	}
	for b := range from.to {
		plain.Write(b)
		if _, err := c.Write(b); err != nil {
			return output{}, err
		}
		from.release(b)
	}
	if err := errors.Join(c.Close(), buffered.Flush()); err != nil {
		return output{}, err
	}
	return output{digest(stored.h), stored.n}, nil
}

// counter counts and hashes what goes through it.
type counter struct {
	w io.Writer
	h hash.Hash
	n int64
}

func (c *counter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.h.Write(p[:n])
	c.n += int64(n)
	return n, err
}

func digest(h hash.Hash) string { return fmt.Sprintf("sha256:%x", h.Sum(nil)) }
