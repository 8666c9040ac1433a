package layer

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"iter"
	"os"

	"slim/internal/flatten"
)

// WriteOptions tells how a layer is written.
type WriteOptions struct {
	// TempDir holds the written layer until it is closed.
	TempDir string
	// Compression defaults to None.
	Compression Compression
	// Level is 1 to 9 for gzip (0: 6), 1 to 22 for zstd (0: 3).
	Level int
	// Workers bounds the compressing goroutines, 0 for as many as there are
	// cores within the memory budget. The bytes do not depend on it.
	Workers int
	// Begun, where it is set, is given the blob before anything of it is written.
	Begun func(*Growing)
}

// Written is a layer blob in a temporary file without a name.
type Written struct {
	Digest, DiffID string
	// Size is that of the blob, TarSize that of the uncompressed tar, in bytes.
	Size, TarSize int64
	// Entries counts the headers, Content the bytes of files.
	Entries int
	Content int64

	file *os.File
}

// Open returns the blob from its start; readers are independent.
func (w *Written) Open(context.Context) (io.ReadCloser, error) {
	return io.NopCloser(io.NewSectionReader(w.file, 0, w.Size)), nil
}

// Close lets go of the temporary file.
func (w *Written) Close() error { return w.file.Close() }

// BodyFunc returns the content of a file.
type BodyFunc func(*flatten.Inode) (*io.SectionReader, error)

// Write encodes the items of a changeset as a layer. The same items and options
// give the same bytes on every machine.
func Write(ctx context.Context, items iter.Seq[flatten.Item], body BodyFunc, o WriteOptions) (_ *Written, err error) {
	f, err := TempFile(o.TempDir)
	if err != nil {
		return nil, err
	}
	w, growing := &Written{file: f}, newGrowing(f)
	defer func() {
		if err != nil {
			growing.end(nil, err)
			f.Close()
			return
		}
		growing.end(w, nil)
	}()
	if o.Begun != nil {
		o.Begun(growing)
	}
	stored := &hashWriter{w: growing, h: sha256.New()}
	out := bufio.NewWriterSize(stored, spoolBuffer)
	c, err := newCompressor(out, o)
	if err != nil {
		return nil, err
	}
	plain := &hashWriter{w: c, h: sha256.New()}
	err = encode(ctx, plain, w.counting(items), body)
	if err = errors.Join(err, c.Close()); err != nil {
		return nil, err
	}
	if err = out.Flush(); err != nil {
		return nil, fmt.Errorf("writing a temporary file: %w", err)
	}
	w.Digest, w.DiffID, w.Size, w.TarSize = stored.digest(), plain.digest(), stored.n, plain.n
	return w, nil
}

// counting counts items on their way.
func (w *Written) counting(items iter.Seq[flatten.Item]) iter.Seq[flatten.Item] {
	return func(yield func(flatten.Item) bool) {
		for it := range items {
			w.Entries++
			if it.Kind == flatten.File {
				w.Content += it.Inode.Size
			}
			if !yield(it) {
				return
			}
		}
	}
}

// DiffID returns the diffID and the length that a layer of the items would have,
// without compressing or keeping it.
func DiffID(ctx context.Context, items iter.Seq[flatten.Item], body BodyFunc) (string, int64, error) {
	plain := &hashWriter{w: io.Discard, h: sha256.New()}
	if err := encode(ctx, plain, items, body); err != nil {
		return "", 0, err
	}
	return plain.digest(), plain.n, nil
}

// encode writes the canonical tar of the items.
func encode(ctx context.Context, to io.Writer, items iter.Seq[flatten.Item], body BodyFunc) error {
	t := &tarWriter{out: bufio.NewWriterSize(to, 64<<10), body: body}
	for it := range items {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err := t.item(it); err != nil {
			return fmt.Errorf("writing %q: %w", it.Path, err)
		}
	}
	if err := t.zeros(TarEnd); err != nil {
		return fmt.Errorf("finishing tar: %w", err)
	}
	return t.out.Flush()
}

// hashWriter counts and hashes what goes through it.
type hashWriter struct {
	w io.Writer
	h hash.Hash
	n int64
}

func (w *hashWriter) Write(p []byte) (int, error) {
	n, err := w.w.Write(p)
	w.h.Write(p[:n])
	w.n += int64(n)
	return n, err
}

func (w *hashWriter) digest() string { return "sha256:" + hex.EncodeToString(w.h.Sum(nil)) }
