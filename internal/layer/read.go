// Package layer reads layers once into an index of entries and a spool of
// bodies, and writes a changeset as one canonical layer.
//
// Reading: the blob is hashed as it comes, inflated once, hashed again, and
// parsed as a tar; headers go to the index, contents to the spool. Both streams
// are drained to their end, past the trailer of the tar, before their digests are
// trusted. Layers are read in parallel. Instead of reading, an index may come from a
// [Cache], where it is stored once its layer was verified.
//
// Writing: a tar whose bytes depend on the changeset alone, compressed on all
// cores into a file while both sides are hashed.
package layer

import (
	"archive/tar"
	"bufio"
	"cmp"
	"context"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/klauspost/readahead"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"

	"slim/internal/flatten"
)

// Blob is a layer to be read.
type Blob struct {
	// Digest, as "sha256:…", and Size are those of the stored blob; an empty
	// Digest and a negative Size are not checked.
	Digest string
	Size   int64
	// DiffID is the digest of the uncompressed layer.
	DiffID string
	// Bodies tells to keep the contents of files; without it they are hashed.
	Bodies bool
	// Open returns the stored bytes.
	Open func(context.Context) (io.ReadCloser, error)
	// Known is a layer of another Set with this diffID, which is used as it was
	// read there and must outlive this Set; nil if there is none.
	Known *Layer
}

// ReadOptions tells how layers are read.
type ReadOptions struct {
	// TempDir holds index and spool.
	TempDir string
	// Jobs is how many layers are read at once, 0 for as many as there are cores
	// but at least four, since some wait for the network.
	Jobs int
	// Cache has the indexes of layers that were read before; nil if there is none.
	Cache *Cache
}

// Layer is a layer that was read and verified.
type Layer struct {
	Index       *Index
	Compression Compression
	// Inflated is the length of the uncompressed layer in bytes.
	Inflated int64
	// Cached tells that the index comes from a [Cache] and the layer was not read.
	Cached bool

	bodies *spool
	// raw counts what was read of the tar, while it is read.
	raw *hashReader
	// stored is the length of the blob in bytes.
	stored int64
}

// Set is the layers of one image, bottom first. Blobs that are the same are one
// layer.
type Set struct {
	Layers []*Layer

	// ctx is that of Read, for what follows it.
	ctx context.Context
	// refetched holds contents that were read later, see [Set.Fetch].
	refetched []*spool
	blobs     []Blob
	opts      ReadOptions
	// windows is the memory for zstd windows, in bytes.
	windows *semaphore.Weighted
}

// Error is a layer that cannot be read.
type Error struct {
	// Layer counts from 0.
	Layer int
	Err   error
}

// Error returns the cause; whoever knows the image adds the layer's name.
func (e *Error) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Read reads layers in parallel, the largest first; those that the cache has are
// not opened. Errors about a layer are *Error. The Set must be closed.
func Read(ctx context.Context, blobs []Blob, o ReadOptions) (*Set, error) {
	if o.Jobs <= 0 {
		o.Jobs = max(4, runtime.GOMAXPROCS(0))
	}
	s := &Set{
		ctx: ctx, blobs: blobs, opts: o, windows: semaphore.NewWeighted(maxWindow),
		Layers: make([]*Layer, len(blobs)), refetched: make([]*spool, len(blobs)),
	}
	shared, first := newAttrs(), firstOf(blobs)
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(o.Jobs)
	for _, i := range bySize(blobs) {
		if s.Layers[i] = blobs[i].Known; s.Layers[i] != nil || first[i] != i {
			continue
		}
		g.Go(func() error {
			l, err := s.read(ctx, blobs[i], shared)
			if err != nil {
				return &Error{Layer: i, Err: err}
			}
			s.Layers[i] = l
			return nil
		})
	}
	err := g.Wait()
	o.Cache.evict()
	if err != nil {
		s.Close()
		return nil, err
	}
	for i, f := range first {
		s.Layers[i] = s.Layers[f]
	}
	return s, nil
}

// firstOf returns for every blob the first that is the same, often itself.
func firstOf(blobs []Blob) []int {
	type key struct {
		digest, diffID string
		size           int64
		bodies         bool
	}
	first, seen := make([]int, len(blobs)), map[key]int{}
	for i, b := range blobs {
		first[i] = i
		if b.Digest == "" || b.Known != nil {
			continue
		}
		k := key{b.Digest, b.DiffID, b.Size, b.Bodies}
		if f, ok := seen[k]; ok {
			first[i] = f
		} else {
			seen[k] = i
		}
	}
	return first
}

// bySize returns the places of blobs, the largest first, so that none starts last
// and alone.
func bySize(blobs []Blob) []int {
	order := make([]int, len(blobs))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(blobs[b].Size, blobs[a].Size) })
	return order
}

// Close lets go of the temporary files.
func (s *Set) Close() {
	closed := map[*Layer]bool{nil: true}
	for i, l := range s.Layers {
		if !closed[l] && l != s.blobs[i].Known {
			l.close()
		}
		closed[l] = true
		s.refetched[i].close()
	}
}

func (l *Layer) close() {
	l.Index.file.close()
	l.bodies.close()
}

// read takes a layer from the cache, or reads it and stores it there.
func (s *Set) read(ctx context.Context, b Blob, shared *attrs) (*Layer, error) {
	l, err := s.opts.Cache.load(b, shared)
	if l != nil || err != nil {
		return l, err
	}
	if l, err = s.readBlob(ctx, b, shared); err == nil {
		// A cache that cannot be written is no reason to fail.
		_ = s.opts.Cache.store(ctx, b, l)
	}
	return l, err
}

// readBlob reads a layer into index and spool. A zstd window that is too large to be
// decoded beside others makes it start again, alone.
func (s *Set) readBlob(ctx context.Context, b Blob, shared *attrs) (*Layer, error) {
	l, err := s.parse(ctx, b, shared, false)
	if errors.Is(err, errWindow) {
		return s.parse(ctx, b, shared, true)
	}
	return l, err
}

// reserve waits for the memory of a zstd window, of all windows together for a large
// one, and returns what gives it back.
func (s *Set) reserve(ctx context.Context, wide bool) (free func(), err error) {
	n := int64(smallWindow)
	if wide {
		n = maxWindow
	}
	if err := s.windows.Acquire(ctx, n); err != nil {
		return nil, context.Cause(ctx)
	}
	return func() {
		if wide {
			// The next large window would be made beside what is left of this one.
			debug.FreeOSMemory()
		}
		s.windows.Release(n)
	}, nil
}

func (s *Set) parse(ctx context.Context, b Blob, shared *attrs, wide bool) (_ *Layer, err error) {
	l := &Layer{Index: newIndex(s.opts.TempDir, shared)}
	defer func() {
		if err != nil {
			l.close()
		}
	}()
	if b.Bodies {
		l.bodies = newSpool(s.opts.TempDir)
	}
	p := parser{ctx: ctx, layer: l}
	if err = s.scan(ctx, b, wide, l, p.entry); err != nil {
		return nil, err
	}
	if l.bodies != nil {
		if err = l.bodies.finish(); err != nil {
			return nil, err
		}
	}
	return l, l.Index.file.finish()
}

// scan inflates a blob, calls entry for every header of its tar, and verifies
// digest, size and diffID. It sets what it learns in l.
func (s *Set) scan(ctx context.Context, b Blob, wide bool, l *Layer, entry func(*tar.Header, io.Reader) error) (err error) {
	rc, err := b.Open(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, rc.Close()) }()
	stored := newHashReader(ctxReader{ctx, rc}, b.Digest, 1<<63-1)
	br := bufio.NewReaderSize(stored, bufferFor(b, 128<<10))
	if l.Compression, err = sniff(br); err != nil {
		return err
	}
	if l.Compression == Zstd {
		free, err := s.reserve(ctx, wide)
		if err != nil {
			return err
		}
		defer free()
	}
	inflated, err := inflate(br, l.Compression, wide)
	if err != nil {
		return err
	}
	ahead, err := readahead.NewReadCloserSize(inflated, 4, bufferFor(b, 256<<10))
	if err != nil {
		return err
	}
	defer ahead.Close()
	plain := newHashReader(ahead, b.DiffID, MaxInflated)
	l.raw = plain
	if err := scanTar(plain, entry); err != nil {
		return err
	}
	// Only now nothing reads the stored side any more.
	ahead.Close()
	err = verify(b, stored, br, plain)
	// The layer would keep the buffers of all readers below.
	l.Inflated, l.stored, l.raw = plain.n, stored.n, nil
	return err
}

// bufferFor returns the size of a buffer for a layer: a small one needs no large
// buffers.
func bufferFor(b Blob, most int) int {
	if b.Size < 0 {
		return most
	}
	return int(min(max(b.Size, 4<<10), int64(most)))
}

// scanTar calls entry for every header and drains r past the tar's trailer.
func scanTar(r io.Reader, entry func(*tar.Header, io.Reader) error) error {
	br := bufio.NewReaderSize(r, 16<<10)
	tr := newTarReader(br)
	for {
		h, content, err := tr.next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return fmt.Errorf("reading tar: %w", err)
		}
		if err := entry(h, content); err != nil {
			return fmt.Errorf("reading %q: %w", h.Name, err)
		}
	}
	if _, err := io.Copy(io.Discard, br); err != nil {
		return fmt.Errorf("reading past the end of the tar: %w", err)
	}
	return nil
}

// ErrMismatch is returned for a layer whose bytes are not those that descriptor or
// config name.
var ErrMismatch = errors.New("content mismatch")

// verify checks the digests after draining the stored blob.
func verify(b Blob, stored *hashReader, rest io.Reader, plain *hashReader) error {
	if _, err := io.Copy(io.Discard, rest); err != nil {
		return fmt.Errorf("reading past the end of the layer: %w", err)
	}
	if b.Size >= 0 && stored.n != b.Size {
		return mismatch("layer has %d bytes, its descriptor says %d", stored.n, b.Size)
	}
	if got := stored.digest(); b.Digest != "" && got != b.Digest {
		return mismatch("layer has the digest %s, its descriptor says %s", got, b.Digest)
	}
	if got := plain.digest(); got != b.DiffID {
		return mismatch("uncompressed layer has the diffID %s, the config says %s", got, b.DiffID)
	}
	return nil
}

// mismatched is ErrMismatch with words of its own.
type mismatched string

func (m mismatched) Error() string { return string(m) }

func (mismatched) Is(target error) bool { return target == ErrMismatch }

func mismatch(format string, args ...any) error { return mismatched(fmt.Sprintf(format, args...)) }

// hashReader counts and hashes what goes through it.
type hashReader struct {
	r io.Reader
	// algorithm is the name of h in digests.
	algorithm string
	h         hash.Hash
	n         int64
	limit     int64
}

// newHashReader hashes by the algorithm of the digest to compare with.
func newHashReader(r io.Reader, digest string, limit int64) *hashReader {
	if strings.HasPrefix(digest, "sha512:") {
		return &hashReader{r: r, algorithm: "sha512:", h: sha512.New(), limit: limit}
	}
	return &hashReader{r: r, algorithm: "sha256:", h: sha256.New(), limit: limit}
}

func (r *hashReader) Read(p []byte) (int, error) {
	n, err := r.r.Read(p)
	r.h.Write(p[:n])
	if r.n += int64(n); r.n > r.limit {
		return n, fmt.Errorf("layer inflates to more than %d GiB", r.limit>>30)
	}
	return n, err
}

func (r *hashReader) digest() string { return r.algorithm + hex.EncodeToString(r.h.Sum(nil)) }

// parser stores the entries of one layer.
type parser struct {
	ctx     context.Context
	layer   *Layer
	ordinal int32
	copyBuf []byte
	// content counts the bytes of files, holes of sparse ones included.
	content int64
}

func (p *parser) entry(h *tar.Header, body io.Reader) error {
	e, ok, err := entryOf(h)
	if err != nil {
		return err
	}
	e.Ordinal = p.ordinal
	p.ordinal++
	if !ok {
		return nil
	}
	if isSparse(h) && p.content+e.Size > p.layer.raw.n+MaxHoles {
		return errHoles
	}
	if e.Size > 0 {
		if err := p.body(&e, body); err != nil {
			return err
		}
	}
	return p.layer.Index.add(e)
}

// body keeps or hashes the content of a file.
func (p *parser) body(e *flatten.Entry, r io.Reader) error {
	var to io.Writer
	h := sha256.New()
	if p.layer.bodies == nil {
		to = h
	} else {
		to, e.Off = p.layer.bodies, p.layer.bodies.size
	}
	if want := min(e.Size, 128<<10); int64(len(p.copyBuf)) < want {
		p.copyBuf = make([]byte, want)
	}
	n, err := io.CopyBuffer(to, &bodyReader{p: p, r: ctxReader{p.ctx, r}}, p.copyBuf)
	if err != nil {
		return err
	}
	if n != e.Size {
		return io.ErrUnexpectedEOF
	}
	if p.layer.bodies == nil {
		e.Sum = new(flatten.Sum)
		h.Sum(e.Sum[:0])
	}
	return nil
}

var errHoles = fmt.Errorf("sparse files with holes of more than %d GiB", int64(MaxHoles)>>30)

func isSparse(h *tar.Header) bool {
	if h.Typeflag == tar.TypeGNUSparse {
		return true
	}
	for k := range h.PAXRecords {
		if strings.HasPrefix(k, "GNU.sparse.") {
			return true
		}
	}
	return false
}

// bodyReader bounds the holes of sparse files: a header of a few bytes may claim
// as many as it likes.
type bodyReader struct {
	p *parser
	r io.Reader
}

func (b *bodyReader) Read(buf []byte) (int, error) {
	n, err := b.r.Read(buf)
	if b.p.content += int64(n); b.p.content > b.p.layer.raw.n+MaxHoles {
		return n, errHoles
	}
	return n, err
}
