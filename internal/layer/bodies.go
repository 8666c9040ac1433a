package layer

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"iter"

	"slim/internal/flatten"
)

// entriesAtOnce is how many entries are yielded before the context is asked again.
const entriesAtOnce = 4096

// Entries yields the entries of one layer, for [flatten.Replay]; cancelling the
// context of [Read] ends them with its cause.
func (s *Set) Entries(i int) iter.Seq2[flatten.Entry, error] {
	return func(yield func(flatten.Entry, error) bool) {
		n := 0
		for e, err := range s.Layers[i].Index.All() {
			if n++; err == nil && n%entriesAtOnce == 0 && s.ctx.Err() != nil {
				err = context.Cause(s.ctx)
			}
			if !yield(e, err) || err != nil {
				return
			}
		}
	}
}

// Body returns the content of a file that was kept.
func (s *Set) Body(n *flatten.Inode) (*io.SectionReader, error) {
	l := s.Layers[n.Layer]
	from := l.bodies
	if from == nil {
		from = s.refetched[n.Layer]
	}
	if from == nil || n.Off == flatten.NoBody {
		return nil, fmt.Errorf("[internal error] content of entry %d of layer %d was not kept", n.Ordinal, n.Layer)
	}
	return from.section(n.Off, n.Size), nil
}

// Bodies is [Set.Body] for one goroutine that wants most contents in the order in
// which they were read: what follows a small one is read with it.
func (s *Set) Bodies() BodyFunc {
	windows := make([]*window, len(s.Layers))
	return func(n *flatten.Inode) (*io.SectionReader, error) {
		r, err := s.Body(n)
		if err != nil || n.Size > windowSize/2 {
			return r, err
		}
		from, off, size := r.Outer()
		if windows[n.Layer] == nil {
			windows[n.Layer] = &window{from: from}
		}
		return io.NewSectionReader(windows[n.Layer], off, size), nil
	}
}

// windowSize is how much is read at once of a spool, in bytes.
const windowSize = 32 << 10

// window reads forwards in large steps, and where it is asked to jump, only what it is
// asked for.
type window struct {
	from io.ReaderAt
	// buf is what lies at off.
	buf []byte
	off int64
	// next is where the last read ended.
	next int64
}

// ReadAt implements io.ReaderAt.
func (w *window) ReadAt(p []byte, off int64) (int, error) {
	near := off >= w.next && off-w.next < windowSize
	w.next = off + int64(len(p))
	if off >= w.off && w.next <= w.off+int64(len(w.buf)) {
		return copy(p, w.buf[off-w.off:]), nil
	}
	if !near || len(p) > windowSize {
		return w.from.ReadAt(p, off)
	}
	if w.buf == nil {
		w.buf = make([]byte, windowSize)
	}
	n, err := w.from.ReadAt(w.buf[:windowSize], off)
	w.buf, w.off = w.buf[:n], off
	if n < len(p) {
		return copy(p, w.buf), err
	}
	return copy(p, w.buf), nil
}

// Sum hashes the content of a file that was kept; it is a [flatten.ContentFunc].
// Cancelling the context of [Read] ends it.
func (s *Set) Sum(n *flatten.Inode) (sum flatten.Sum, err error) {
	r, err := s.Body(n)
	if err != nil {
		return sum, err
	}
	h := sha256.New()
	// The buffer that io.Copy makes is too large for most files.
	if _, err := io.CopyBuffer(h, ctxReader{s.ctx, r}, make([]byte, min(n.Size, 32<<10))); err != nil {
		return sum, fmt.Errorf("reading a temporary file: %w", err)
	}
	h.Sum(sum[:0])
	return sum, nil
}

// Fetch reads layers whose contents were not kept once more, for the contents of
// the given inodes alone, and sets where these lie. The inodes come in the order
// of layers and entries, all of a layer in one call. Digests are verified again, for
// the first time in this run where the index was cached. Errors about a layer are
// *Error.
func (s *Set) Fetch(ctx context.Context, inodes []*flatten.Inode) error {
	for len(inodes) > 0 {
		layer, n := inodes[0].Layer, 1
		for n < len(inodes) && inodes[n].Layer == layer {
			n++
		}
		if err := s.fetch(ctx, int(layer), inodes[:n]); err != nil {
			return &Error{Layer: int(layer), Err: err}
		}
		inodes = inodes[n:]
	}
	return nil
}

func (s *Set) fetch(ctx context.Context, i int, want []*flatten.Inode) error {
	if s.refetched[i] != nil {
		return errors.New("[internal error] contents are fetched a second time")
	}
	kept := newSpool(s.opts.TempDir)
	s.refetched[i] = kept
	ordinal, buf := int32(-1), make([]byte, 128<<10)
	entry := func(_ *tar.Header, body io.Reader) error {
		ordinal++
		if len(want) == 0 || want[0].Ordinal != ordinal {
			return nil
		}
		n := want[0]
		n.Keep(kept.size)
		want = want[1:]
		// The blob may be another one now, with holes as large as it claims.
		got, err := io.CopyBuffer(kept, io.LimitReader(ctxReader{ctx, body}, n.Size+1), buf)
		if err == nil && got != n.Size {
			err = mismatch("content has not the %d bytes that it had when it was first read", n.Size)
		}
		return err
	}
	// The layer was verified when it was first read, so its window is known to be allowed.
	if err := s.scan(ctx, s.blobs[i], true, &Layer{}, entry); err != nil {
		return err
	}
	if len(want) > 0 {
		return fmt.Errorf("[internal error] entry %d is missing when read again", want[0].Ordinal)
	}
	return kept.finish()
}
