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

// Index holds the entries of one layer in a file, so that a million of them take no
// memory. An entry is a row of varints and strings; of a path only what differs from
// the path before is stored.
type Index struct {
	file *spool
	// start is where the rows begin in file.
	start int64
	attrs *attrs
	// own are the attributes that the rows of a cached index name; others name those
	// that all layers share.
	own   []*flatten.Attr
	count int
	row   rowEncoder
}

func newIndex(dir string, a *attrs) *Index {
	return &Index{file: newSpool(dir), attrs: a}
}

// add appends an entry, whose attributes need not be interned.
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
	_, err := x.file.Write(x.row.encode(&e, attr))
	return err
}

// All yields the entries in the order of the layer.
func (x *Index) All() iter.Seq2[flatten.Entry, error] {
	return func(yield func(flatten.Entry, error) bool) {
		n, table := x.file.size-x.start, x.own
		if table == nil {
			table = x.attrs.all()
		}
		rows := x.file.section(x.start, n)
		d := rowDecoder{fields: fields{r: bufio.NewReaderSize(rows, int(min(n, 64<<10)))}}
		for range x.count {
			e, attr := d.entry()
			if attr != noAttr && d.err == nil {
				if attr > uint64(len(table)) {
					d.fail(errors.New("[internal error] unknown attributes"))
				} else {
					e.Attr = table[attr-1]
				}
			}
			if d.err != nil {
				yield(e, fmt.Errorf("reading the index of a layer: %w", d.err))
				return
			}
			if e.Kind == flatten.Symlink && len(e.Link) > longLink {
				read, _ := rows.Seek(0, io.SeekCurrent)
				e.LinkAgain = x.link(read-int64(d.r.Buffered()), len(e.Link))
			}
			if !yield(e, nil) {
				return
			}
		}
	}
}

// longLink is the length in bytes from which on targets of symlinks are not held in
// memory; hardly any real one has it.
const longLink = 255

// link returns what reads the target of a symlink again, whose row ends where the
// rows have n bytes: all that follows the target is that there is no sum.
func (x *Index) link(n int64, length int) func() (string, error) {
	at := x.start + n - 1 - int64(length)
	return func() (string, error) {
		b := make([]byte, length)
		if _, err := x.file.section(at, int64(length)).ReadAt(b, 0); err != nil {
			return "", fmt.Errorf("reading the index of a layer: %w", err)
		}
		return string(b), nil
	}
}

// noAttr stands for the attributes of a marker, which has none; others are counted
// from 1.
const noAttr = 0

// rowEncoder makes rows, each from the one before.
type rowEncoder struct {
	// last is the path of the row before.
	last string
	buf  []byte
}

// encode returns the row of an entry; it is valid until the next.
func (r *rowEncoder) encode(e *flatten.Entry, attr uint64) []byte {
	shared := commonPrefix(r.last, e.Path)
	b := append(r.buf[:0], byte(e.Kind))
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
	r.buf, r.last = b, e.Path
	return b
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

// rowDecoder reads rows, each after the one before.
type rowDecoder struct {
	fields
	path []byte
}

// entry returns an entry and the number of its attributes.
func (d *rowDecoder) entry() (e flatten.Entry, attr uint64) {
	e.Kind = flatten.Kind(d.byte())
	shared := d.uvarint()
	if shared > uint64(len(d.path)) {
		d.fail(errors.New("[internal error] prefix longer than the path before"))
		return e, noAttr
	}
	// Paths and links are bounded when they are written.
	d.path = d.appendText(d.path[:shared], flatten.MaxPath)
	e.Path = string(d.path)
	attr = d.uvarint()
	e.Sec = d.varint()
	e.Nsec = int32(d.uvarint())
	e.Ordinal = int32(d.uvarint())
	e.Size = int64(d.uvarint())
	e.Off = d.varint()
	e.Link = d.text(flatten.MaxPath)
	if d.byte() == 1 {
		e.Sum = new(flatten.Sum)
		d.full(e.Sum[:])
	}
	return e, attr
}

// fields reads fields until the first error, which it keeps.
type fields struct {
	r   *bufio.Reader
	buf []byte
	err error
}

func (d *fields) fail(err error) {
	if d.err == nil {
		d.err = err
	}
}

func (d *fields) byte() byte {
	b, err := d.r.ReadByte()
	d.fail(err)
	return b
}

func (d *fields) uvarint() uint64 {
	v, err := binary.ReadUvarint(d.r)
	d.fail(err)
	return v
}

func (d *fields) varint() int64 {
	v, err := binary.ReadVarint(d.r)
	d.fail(err)
	return v
}

func (d *fields) full(b []byte) {
	_, err := io.ReadFull(d.r, b)
	d.fail(err)
}

// text reads a string of at most limit bytes.
func (d *fields) text(limit uint64) string {
	d.buf = d.appendText(d.buf[:0], limit)
	return string(d.buf)
}

func (d *fields) appendText(b []byte, limit uint64) []byte {
	n := d.uvarint()
	if n > limit {
		d.fail(errors.New("[internal error] string too long"))
		return b
	}
	at := len(b)
	b = append(b, make([]byte, n)...)
	d.full(b[at:])
	return b
}
