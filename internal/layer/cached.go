package layer

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"slices"
	"strings"

	"slim/internal/flatten"
)

// cacheMagic starts every file of the cache. Its number is the schema version: it
// changes with the form of the file, and with what entryOf makes of a header.
const cacheMagic = "slim layer index 1\n"

// maxCachedAttrs bounds the distinct attributes of a cached layer, for which a
// pointer each is held in memory; base layers have a few dozen.
const maxCachedAttrs = 1 << 16

// compressions are the compressions by their number in a file of the cache.
var compressions = []Compression{None, Gzip, Zstd}

// errNotCached is returned for a file that is not what a cache holds, and for a layer
// that does not fit into one.
var errNotCached = errors.New("no index of this layer")

// encodeCached writes the file of a layer: magic and key, the layer's fields, the
// rows, which number attributes by their first use, the attributes, and the SHA-256
// of all that. More than limit bytes are an error. Rows are not compressed: most of
// their bytes are digests, and as they are they can be read from their place.
func encodeCached(ctx context.Context, w io.Writer, limit int64, key flatten.Sum, l *Layer) error {
	hashed := &hashWriter{w: w, h: sha256.New()}
	out := bufio.NewWriterSize(hashed, 64<<10)
	// The buffer keeps the first error for Flush.
	out.Write(appendCachedHead(nil, key, l))
	var rows rowEncoder
	table := attrTable{numbers: map[*flatten.Attr]uint64{}}
	for e, err := range l.Index.All() {
		if err != nil {
			return err
		}
		if _, err := out.Write(rows.encode(&e, table.number(e.Attr))); err != nil {
			return err
		}
		if len(table.attrs) > maxCachedAttrs || hashed.n > limit {
			return errNotCached
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
	buf := binary.AppendUvarint(nil, uint64(len(table.attrs)))
	for _, a := range table.attrs {
		buf = appendAttr(buf, a)
		out.Write(buf)
		buf = buf[:0]
	}
	out.Write(buf)
	if err := out.Flush(); err != nil {
		return err
	}
	if hashed.n+sha256.Size > limit {
		return errNotCached
	}
	_, err := w.Write(hashed.h.Sum(nil))
	return err
}

func appendCachedHead(b []byte, key flatten.Sum, l *Layer) []byte {
	b = append(append(b, cacheMagic...), key[:]...)
	b = append(b, byte(slices.Index(compressions, l.Compression)))
	b = binary.AppendUvarint(b, uint64(l.Inflated))
	b = binary.AppendUvarint(b, uint64(l.stored))
	return binary.AppendUvarint(b, uint64(l.Index.count))
}

// attrTable numbers interned attributes by their first use, from 1.
type attrTable struct {
	attrs   []*flatten.Attr
	numbers map[*flatten.Attr]uint64
}

func (t *attrTable) number(a *flatten.Attr) uint64 {
	if a == nil {
		return noAttr
	}
	n, ok := t.numbers[a]
	if !ok {
		t.attrs = append(t.attrs, a)
		n = uint64(len(t.attrs))
		t.numbers[a] = n
	}
	return n
}

// cached is what a file of the cache holds, its rows in their place from start to end.
type cached struct {
	compression      Compression
	inflated, stored int64
	count            int
	start, end       int64
	attrs            []*flatten.Attr
}

// decodeCached reads a file of the cache. Anything that encodeCached would not have
// written is an error: a wrong checksum, another key, a value out of its bounds.
func decodeCached(f io.ReaderAt, size int64, key flatten.Sum) (*cached, error) {
	size -= sha256.Size
	if err := checkSum(f, size); err != nil {
		return nil, err
	}
	section := io.NewSectionReader(f, 0, size)
	d := cachedDecoder{rowDecoder: rowDecoder{fields: fields{r: bufio.NewReaderSize(section, 64<<10)}}}
	at := func() int64 {
		read, _ := section.Seek(0, io.SeekCurrent)
		return read - int64(d.r.Buffered())
	}
	c := d.head(key)
	c.start = at()
	for n := c.count; n > 0 && d.err == nil; n-- {
		d.row()
	}
	c.end = at()
	d.must(d.uvarint() == d.named)
	for n := d.named; n > 0 && d.err == nil; n-- {
		c.attrs = append(c.attrs, d.attr())
	}
	d.must(at() == size)
	return c, d.err
}

// checkSum compares the first n bytes with the SHA-256 that follows them.
func checkSum(f io.ReaderAt, n int64) error {
	if n < 0 {
		return errNotCached
	}
	var want flatten.Sum
	if _, err := f.ReadAt(want[:], n); err != nil {
		return err
	}
	h := sha256.New()
	if _, err := io.Copy(h, io.NewSectionReader(f, 0, n)); err != nil {
		return err
	}
	if flatten.Sum(h.Sum(nil)) != want {
		return errNotCached
	}
	return nil
}

// cachedDecoder reads the parts of a file of the cache.
type cachedDecoder struct {
	rowDecoder
	// named counts the attributes that the rows up to now name.
	named uint64
	// ordinal is the least that the next row may have.
	ordinal int32
}

func (d *cachedDecoder) must(ok bool) {
	if !ok {
		d.fail(errNotCached)
	}
}

func (d *cachedDecoder) head(want flatten.Sum) *cached {
	magic, key := make([]byte, len(cacheMagic)), flatten.Sum{}
	d.full(magic)
	d.full(key[:])
	d.must(string(magic) == cacheMagic && key == want)
	c := &cached{}
	if n := int(d.byte()); n < len(compressions) {
		c.compression = compressions[n]
	}
	inflated, stored, count := d.uvarint(), d.uvarint(), d.uvarint()
	d.must(c.compression != "" && inflated <= MaxInflated && stored < 1<<63 && count <= MaxEntries)
	c.inflated, c.stored, c.count = int64(inflated), int64(stored), int(count)
	return c
}

// row reads and checks one row: it is what entryOf and a parser without a spool make.
func (d *cachedDecoder) row() {
	e, attr := d.entry()
	clean, err := flatten.CleanPath(e.Path)
	d.must(err == nil && clean == e.Path)
	d.must(e.Ordinal >= d.ordinal && e.Nsec >= 0 && e.Nsec < 1e9 && e.Off == flatten.NoBody)
	d.ordinal = e.Ordinal + 1
	d.must(e.Kind <= flatten.Metadata && (attr == noAttr) == isMarker(e.Kind))
	if attr > d.named {
		d.named++
	}
	d.must(attr <= d.named && attr <= maxCachedAttrs)
	isFile := e.Kind == flatten.File || e.Kind == flatten.Metadata
	d.must(e.Size >= 0 && (e.Size == 0 || isFile) && (e.Sum != nil) == (e.Size > 0))
	d.must(validLink(e))
}

func isMarker(k flatten.Kind) bool { return k == flatten.Whiteout || k == flatten.Opaque }

func validLink(e flatten.Entry) bool {
	switch e.Kind {
	case flatten.Symlink:
		return e.Link != "" && len(e.Link) < flatten.MaxPath && strings.IndexByte(e.Link, 0) < 0
	case flatten.Hardlink:
		clean, err := flatten.CleanPath(e.Link)
		return err == nil && clean == e.Link
	}
	return e.Link == ""
}

// rows returns the rows as a spool, which owns the file: it keeps them also when the
// file has lost its name. A few are copied, so that no file stays open for them.
func (c *cached) rows(f *os.File) (_ *spool, start int64, err error) {
	n := c.end - c.start
	if n > spoolInMemory {
		return &spool{file: f, size: c.end}, c.start, nil
	}
	small := make([]byte, n)
	_, err = f.ReadAt(small, c.start)
	return &spool{small: small, size: n}, 0, errors.Join(err, f.Close())
}

// intern returns the attributes as all layers share them.
func (c *cached) intern(shared *attrs) ([]*flatten.Attr, error) {
	own := make([]*flatten.Attr, len(c.attrs))
	for i, a := range c.attrs {
		var err error
		if _, own[i], err = shared.intern(a); err != nil {
			return nil, err
		}
	}
	return own, nil
}
