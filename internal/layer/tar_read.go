package layer

import (
	"archive/tar"
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"strings"
	"time"
)

// tarReader reads the entries of a tar. Plain headers, which nearly all are, it reads
// itself; archive/tar reads all others, and would take several times as long.
type tarReader struct {
	in countingReader
	// end is where the content of the entry ends.
	end int64
	// header is that of a plain entry, used again for the next.
	header tar.Header
	// rest reads all that follows a sparse file: only archive/tar knows where that ends.
	rest *tar.Reader
}

// countingReader knows how much was read of a buffered reader.
type countingReader struct {
	*bufio.Reader
	n int64
}

// Read implements io.Reader.
func (c *countingReader) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	c.n += int64(n)
	return n, err
}

// skip goes on to a place.
func (c *countingReader) skip(to int64) error {
	for c.n < to {
		n, err := c.Reader.Discard(int(min(to-c.n, 1<<30)))
		c.n += int64(n)
		if err != nil {
			return err
		}
	}
	return nil
}

func newTarReader(r *bufio.Reader) *tarReader { return &tarReader{in: countingReader{Reader: r}} }

// next returns the next header, which is valid until the one after it, and the content.
// Its errors are those of archive/tar: at the end io.EOF.
func (t *tarReader) next() (*tar.Header, io.Reader, error) {
	if t.rest != nil {
		h, err := t.rest.Next()
		return h, t.rest, err
	}
	if err := t.in.skip(t.end); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return nil, nil, err
	}
	// A last entry may lack its padding.
	if err := t.in.skip(t.end + padding(t.end)); err != nil {
		return nil, nil, err
	}
	if b, err := t.in.Peek(tarBlock); err == nil && parsePlain(&t.header, [tarBlock]byte(b)) {
		err := t.in.skip(t.in.n + tarBlock)
		t.end = t.in.n + t.header.Size
		return &t.header, (*plainContent)(t), err
	}
	other := tar.NewReader(&t.in)
	h, err := other.Next()
	if err != nil {
		return nil, nil, err
	}
	if t.end = t.in.n; !headerOnly(h.Typeflag) {
		t.end += h.Size
	}
	if isSparse(h) {
		t.rest = other
	}
	return h, other, nil
}

// plainContent is the content of a plain entry.
type plainContent tarReader

// Read implements io.Reader.
func (c *plainContent) Read(p []byte) (int, error) {
	left := c.end - c.in.n
	if left == 0 {
		return 0, io.EOF
	}
	n, err := c.in.Read(p[:min(int64(len(p)), left)])
	if errors.Is(err, io.EOF) && int64(n) < left {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// headerOnly reports whether entries of a type have no content, whatever size they
// claim.
func headerOnly(typeflag byte) bool {
	switch typeflag {
	case tar.TypeLink, tar.TypeSymlink, tar.TypeChar, tar.TypeBlock, tar.TypeDir, tar.TypeFifo, tar.TypeXGlobalHeader:
		return true
	}
	return false
}

// parsePlain reads a header block of the ustar format that is no more than that: it
// holds ASCII and octal numbers, its checksum is right, and neither type nor name give
// it another meaning. Names of owners are left out.
func parsePlain(h *tar.Header, b [tarBlock]byte) bool {
	if string(b[257:265]) != "ustar\x0000" || string(b[500:508]) != "\x00\x00\x00\x00\x00\x00\x00\x00" {
		return false
	}
	sum, ascii := sumBlock(&b)
	var f octalFields
	claimed := f.parse(b[148:156])
	*h = tar.Header{
		Typeflag: b[156], Name: cString(b[0:100]), Linkname: cString(b[157:257]),
		Mode: f.parse(b[100:108]), Uid: int(f.parse(b[108:116])), Gid: int(f.parse(b[116:124])),
		Size: f.parse(b[124:136]), ModTime: time.Unix(f.parse(b[136:148]), 0),
		Devmajor: f.parse(b[329:337]), Devminor: f.parse(b[337:345]),
	}
	if f.bad || !ascii || claimed != sum {
		return false
	}
	if prefix := cString(b[345:500]); prefix != "" {
		h.Name = prefix + "/" + h.Name
	}
	switch h.Typeflag {
	case tar.TypeReg:
		return !strings.HasSuffix(h.Name, "/")
	case tar.TypeDir, tar.TypeSymlink, tar.TypeLink:
		return h.Size == 0
	}
	return false
}

// cString is a field up to its first NUL.
func cString(field []byte) string {
	if i := bytes.IndexByte(field, 0); i >= 0 {
		field = field[:i]
	}
	return string(field)
}

// octalFields parses fields and remembers whether one was not plain.
type octalFields struct{ bad bool }

// parse reads digits up to the spaces and NULs that fill the field.
func (f *octalFields) parse(field []byte) (n int64) {
	i := 0
	for ; i < len(field) && field[i]-'0' < 8; i++ {
		n = n<<3 | int64(field[i]-'0')
	}
	for ; i < len(field); i++ {
		f.bad = f.bad || field[i] != 0 && field[i] != ' '
	}
	return n
}

// sumBlock adds up a header as its checksum does, which counts itself as spaces, and
// reports whether all bytes are ASCII. It adds four bytes at a time.
func sumBlock(b *[tarBlock]byte) (sum int64, ascii bool) {
	const even = 0x00ff00ff00ff00ff
	var all, lanes uint64
	for i := 0; i < tarBlock; i += 8 {
		w := binary.LittleEndian.Uint64(b[i:])
		all |= w
		lanes += w&even + w>>8&even
	}
	for ; lanes != 0; lanes >>= 16 {
		sum += int64(lanes & 0xffff)
	}
	for _, c := range b[148:156] {
		sum += ' ' - int64(c)
	}
	return sum, all&0x8080808080808080 == 0
}
