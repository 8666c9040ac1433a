package layer

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"iter"

	"slim/internal/flatten"
)

// Index holds the entries of one layer in a temporary file, so that a million of
// them take no memory. An entry is a row of varints and strings; of a path only
// what differs from the path before is stored.
type Index struct {
	file  *spool
	attrs *attrs
	count int
	// last is the path of the entry written before.
	last string
	buf  []byte
}

func newIndex(dir string, a *attrs) *Index {
	return &Index{file: newSpool(dir), attrs: a}
}

// noAttr stands for the attributes of a marker, which has none.
const noAttr = 0

func (x *Index) add(e flatten.Entry) error {
	if x.count++; x.count > MaxEntries {
		return fmt.Errorf("more than %d entries", MaxEntries)
	}
	attr := uint64(noAttr)
	if e.Attr != nil {
		id, _, err := x.attrs.intern(e.Attr)
		if err != nil {
			return err
		}
		attr = uint64(id) + 1
	}
	shared := commonPrefix(x.last, e.Path)
	b := append(x.buf[:0], byte(e.Kind))
	b = binary.AppendUvarint(b, uint64(shared))
	b = appendString(b, e.Path[shared:])
	b = binary.AppendUvarint(b, attr)
	b = binary.AppendVarint(b, e.Sec)
	b = binary.AppendUvarint(b, uint64(e.Nsec))
	b = binary.AppendUvarint(b, uint64(e.Ordinal))
	b = binary.AppendUvarint(b, uint64(e.Size))
	b = binary.AppendVarint(b, e.Off)
	b = appendString(b, e.Link)
	if e.Sum == nil {
		b = append(b, 0)
	} else {
		b = append(append(b, 1), e.Sum[:]...)
	}
	x.buf, x.last = b, e.Path
	_, err := x.file.Write(b)
	return err
}

func commonPrefix(a, b string) int {
	n := 0
	for n < len(a) && n < len(b) && a[n] == b[n] {
		n++
	}
	return n
}

func appendString(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// All yields the entries in the order of the layer.
func (x *Index) All() iter.Seq2[flatten.Entry, error] {
	return func(yield func(flatten.Entry, error) bool) {
		d := indexReader{r: bufio.NewReaderSize(x.file.section(0, x.file.size), int(min(x.file.size, 64<<10))), attrs: x.attrs}
		for range x.count {
			e := d.entry()
			if d.err != nil {
				yield(e, fmt.Errorf("reading the index of a layer: %w", d.err))
				return
			}
			if !yield(e, nil) {
				return
			}
		}
	}
}

// indexReader reads fields until the first error, which it keeps.
type indexReader struct {
	r     *bufio.Reader
	attrs *attrs
	path  []byte
	err   error
}

func (d *indexReader) entry() (e flatten.Entry) {
	e.Kind = flatten.Kind(d.byte())
	shared := d.uvarint()
	if shared > uint64(len(d.path)) {
		d.fail(errors.New("[internal error] prefix longer than the path before"))
		return e
	}
	d.path = d.appendString(d.path[:shared])
	e.Path = string(d.path)
	if id := d.uvarint(); id != noAttr {
		e.Attr = d.attr(id - 1)
	}
	e.Sec = d.varint()
	e.Nsec = int32(d.uvarint())
	e.Ordinal = int32(d.uvarint())
	e.Size = int64(d.uvarint())
	e.Off = d.varint()
	e.Link = string(d.appendString(nil))
	if d.byte() == 1 {
		e.Sum = new(flatten.Sum)
		d.full(e.Sum[:])
	}
	return e
}

func (d *indexReader) attr(id uint64) *flatten.Attr {
	d.attrs.mu.Lock()
	defer d.attrs.mu.Unlock()
	if id >= uint64(len(d.attrs.byID)) {
		d.fail(errors.New("[internal error] unknown attributes"))
		return nil
	}
	return d.attrs.byID[id]
}

func (d *indexReader) fail(err error) {
	if d.err == nil {
		d.err = err
	}
}

func (d *indexReader) byte() byte {
	b, err := d.r.ReadByte()
	d.fail(err)
	return b
}

func (d *indexReader) uvarint() uint64 {
	v, err := binary.ReadUvarint(d.r)
	d.fail(err)
	return v
}

func (d *indexReader) varint() int64 {
	v, err := binary.ReadVarint(d.r)
	d.fail(err)
	return v
}

func (d *indexReader) full(b []byte) {
	_, err := io.ReadFull(d.r, b)
	d.fail(err)
}

// appendString reads a string onto b; paths and links are bounded when written.
func (d *indexReader) appendString(b []byte) []byte {
	n := d.uvarint()
	if n > flatten.MaxPath {
		d.fail(errors.New("[internal error] string too long"))
		return b
	}
	at := len(b)
	b = append(b, make([]byte, n)...)
	d.full(b[at:])
	return b
}
