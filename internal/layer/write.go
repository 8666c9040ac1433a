package layer

import (
	"archive/tar"
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
	"path"
	"time"

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
	defer func() {
		if err != nil {
			f.Close()
		}
	}()
	stored := &hashWriter{w: f, h: sha256.New()}
	out := bufio.NewWriterSize(stored, spoolBuffer)
	c, err := newCompressor(out, o)
	if err != nil {
		return nil, err
	}
	plain := &hashWriter{w: c, h: sha256.New()}
	w := &Written{file: f}
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
	buffered := bufio.NewWriterSize(to, 64<<10)
	tw := tar.NewWriter(buffered)
	buf := make([]byte, 64<<10)
	for it := range items {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err := writeItem(tw, it, body, buf); err != nil {
			return fmt.Errorf("writing %q: %w", it.Path, err)
		}
	}
	if err := tw.Close(); err != nil {
		return fmt.Errorf("finishing tar: %w", err)
	}
	return buffered.Flush()
}

// TarEnd is the length in bytes of what ends the tar of a layer.
const TarEnd = 1024

// TarSize returns the bytes that an item takes in the tar of a layer: its header
// with PAX records, and its content padded to whole blocks. The tar of a layer
// has [TarEnd] bytes more than its items. An item that [Write] refuses takes 0.
func TarSize(it flatten.Item) int64 {
	h := headerOf(it)
	var n countWriter
	if err := tar.NewWriter(&n).WriteHeader(h); err != nil {
		return 0
	}
	return int64(n) + (h.Size+511)&^511
}

type countWriter int64

func (n *countWriter) Write(p []byte) (int, error) {
	*n += countWriter(len(p))
	return len(p), nil
}

func writeItem(tw *tar.Writer, it flatten.Item, body BodyFunc, buf []byte) error {
	if it.Kind == flatten.Symlink && it.Inode.Link == "" {
		return errors.New("the symlink's target could not be read back")
	}
	if err := tw.WriteHeader(headerOf(it)); err != nil {
		return err
	}
	if it.Kind != flatten.File || it.Inode.Size == 0 {
		return nil
	}
	r, err := body(it.Inode)
	if err != nil {
		return err
	}
	_, err = io.CopyBuffer(tw, onlyReader{r}, buf)
	return err
}

// tarTypes are the header types of items.
var tarTypes = map[flatten.Kind]byte{
	flatten.File: tar.TypeReg, flatten.Dir: tar.TypeDir, flatten.Symlink: tar.TypeSymlink, flatten.Hardlink: tar.TypeLink,
	flatten.CharDevice: tar.TypeChar, flatten.BlockDevice: tar.TypeBlock, flatten.Fifo: tar.TypeFifo,
	flatten.Whiteout: tar.TypeReg,
}

// headerOf returns the canonical header: PAX, so that times keep nanoseconds and
// attributes fit; no user or group names; no access or change times. A link
// repeats all attributes of its inode, since some engines apply the last header.
func headerOf(it flatten.Item) *tar.Header {
	h := &tar.Header{Format: tar.FormatPAX, Typeflag: tarTypes[it.Kind], Name: it.Path, ModTime: time.Unix(0, 0)}
	if it.Kind == flatten.Whiteout {
		dir, base := path.Split(it.Path)
		h.Name = dir + flatten.WhiteoutPrefix + base
		return h
	}
	n := it.Inode
	h.Mode, h.Uid, h.Gid = int64(n.Attr.Mode), int(n.Attr.UID), int(n.Attr.GID)
	h.ModTime = time.Unix(n.Sec, int64(n.Nsec))
	h.Devmajor, h.Devminor = n.Attr.DevMajor, n.Attr.DevMinor
	switch it.Kind {
	case flatten.Dir:
		h.Name = dirName(it.Path)
	case flatten.File:
		h.Size = n.Size
	case flatten.Symlink:
		h.Linkname = n.Link
	case flatten.Hardlink:
		h.Linkname = it.Link
	}
	if len(n.Attr.Records) > 0 {
		h.PAXRecords = make(map[string]string, len(n.Attr.Records))
		for _, r := range n.Attr.Records {
			h.PAXRecords[r.Key] = r.Value
		}
	}
	return h
}

func dirName(p string) string {
	if p == "" {
		return "./"
	}
	return p + "/"
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
