package layer

import (
	"archive/tar"
	"bufio"
	"errors"
	"io"
	"path"
	"strings"
	"time"

	"slim/internal/flatten"
)

// tarBlock is the unit of a tar in bytes, TarEnd the length of what ends the tar of a
// layer.
const (
	tarBlock = 512
	TarEnd   = 2 * tarBlock
)

// tarWriter writes items as the entries of a tar.
type tarWriter struct {
	out  *bufio.Writer
	body BodyFunc
	// block is the header that is written.
	block [tarBlock]byte
}

// item writes the header and the content of an item.
func (t *tarWriter) item(it flatten.Item) error {
	if it.Kind == flatten.Symlink && it.Inode.Link == "" {
		return errors.New("the symlink's target could not be read back")
	}
	if err := t.header(headerOf(it)); err != nil {
		return err
	}
	if it.Kind != flatten.File || it.Inode.Size == 0 {
		return nil
	}
	r, err := t.body(it.Inode)
	if err != nil {
		return err
	}
	n, err := t.out.ReadFrom(r)
	if err == nil && n != it.Inode.Size {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return err
	}
	return t.zeros(padding(n))
}

// header writes a header. Most need one block, which archive/tar takes ten times as
// long to write.
func (t *tarWriter) header(h *tar.Header) error {
	if !simpleHeader(h) {
		return tar.NewWriter(t.out).WriteHeader(h)
	}
	formatHeader(&t.block, h)
	_, err := t.out.Write(t.block[:])
	return err
}

var zeroes [TarEnd]byte

func (t *tarWriter) zeros(n int64) error {
	_, err := t.out.Write(zeroes[:n])
	return err
}

// padding is what follows n bytes of content up to the next block.
func padding(n int64) int64 { return -n & (tarBlock - 1) }

// TarSize returns the bytes that an item takes in the tar of a layer: its header
// with PAX records, and its content padded to whole blocks. The tar of a layer
// has [TarEnd] bytes more than its items. An item that [Write] refuses takes 0.
func TarSize(it flatten.Item) int64 {
	h := headerOf(it)
	n := countWriter(tarBlock)
	if !simpleHeader(h) {
		n = 0
		if err := tar.NewWriter(&n).WriteHeader(h); err != nil {
			return 0
		}
	}
	return int64(n) + h.Size + padding(h.Size)
}

type countWriter int64

func (n *countWriter) Write(p []byte) (int, error) {
	*n += countWriter(len(p))
	return len(p), nil
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

// simpleHeader reports whether all fields of a header fit into one block of the ustar
// format, which PAX extends by records (POSIX.1-2017, pax).
func simpleHeader(h *tar.Header) bool {
	slash := strings.HasSuffix(h.Name, "/") // only a folder may have one
	return slash == (h.Typeflag == tar.TypeDir) && len(h.PAXRecords) == 0 && h.ModTime.Nanosecond() == 0 && simpleText(h.Name) && simpleText(h.Linkname) &&
		fitsOctal(7, h.Mode, int64(h.Uid), int64(h.Gid), h.Devmajor, h.Devminor) && fitsOctal(11, h.Size, h.ModTime.Unix())
}

// simpleText reports whether a name fits as it is.
func simpleText(s string) bool {
	if len(s) > 100 {
		return false
	}
	for i := range len(s) {
		if s[i] == 0 || s[i] >= 0x80 {
			return false
		}
	}
	return true
}

// fitsOctal reports whether numbers have at most so many octal digits.
func fitsOctal(digits int, numbers ...int64) bool {
	for _, n := range numbers {
		if n < 0 || n>>(3*digits) != 0 {
			return false
		}
	}
	return true
}

// formatHeader writes a simple header into a block, as archive/tar does.
func formatHeader(b *[tarBlock]byte, h *tar.Header) {
	*b = [tarBlock]byte{}
	copy(b[0:100], h.Name)
	octal(b[100:107], h.Mode)
	octal(b[108:115], int64(h.Uid))
	octal(b[116:123], int64(h.Gid))
	octal(b[124:135], h.Size)
	octal(b[136:147], h.ModTime.Unix())
	copy(b[148:156], "        ")
	b[156] = h.Typeflag
	copy(b[157:257], h.Linkname)
	copy(b[257:265], "ustar\x0000")
	octal(b[329:336], h.Devmajor)
	octal(b[337:344], h.Devminor)
	var sum int64
	for _, c := range b {
		sum += int64(c)
	}
	octal(b[148:154], sum)
	b[154] = 0
}

// octal fills a field with the digits of a number.
func octal(field []byte, n int64) {
	for i := len(field) - 1; i >= 0; i-- {
		field[i] = '0' + byte(n&7)
		n >>= 3
	}
}
