package image

import (
	"archive/tar"
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// Bounds on what an archive may hold. An image archive has a few members per
// layer; these are far above and keep the table of members small.
const (
	maxMembers  = 100_000
	maxNames    = 16 << 20 // bytes of names and link targets together
	maxLinkHops = 40
	// maxZstdWindow is the largest zstd window that is decoded, in bytes.
	maxZstdWindow = 128 << 20
)

// archive gives random access to the members of a tar file. Members are found
// by name in a table; nothing is ever extracted, so a name can be anything.
type archive struct {
	file    *os.File
	members map[string]member
	names   int // bytes of names and link targets in the table
}

// member is a regular file of the archive, at offset and size, or a link.
type member struct {
	offset, size int64
	symlink      string
	// broken tells why the member cannot be read; empty if it can.
	broken string
}

// openArchive opens the tar file at name, plain or compressed.
func openArchive(ctx context.Context, name, tempDir string) (*archive, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("opening an archive: %w", err)
	}
	info, err := f.Stat()
	if err == nil && info.IsDir() {
		err = &HintError{Err: fmt.Errorf("%q is a directory, not an archive", name), Hint: "an OCI layout is named oci:DIR"}
	}
	if err == nil && info.Mode().IsRegular() {
		var compression string
		if compression, err = sniffFile(f); err == nil && compression == "" {
			return indexArchive(ctx, f)
		}
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	// A pipe or device can be read only once, a compressed file only forward.
	defer f.Close()
	return spoolArchive(ctx, f, tempDir)
}

// spoolArchive copies r, inflated, to a file without a name and indexes that.
func spoolArchive(ctx context.Context, r io.Reader, tempDir string) (*archive, error) {
	spool, err := createSpool(tempDir)
	if err != nil {
		return nil, err
	}
	// Nothing interrupts the reading of a pipe to which nobody writes, so the
	// reader is left behind when ctx ends; its next write finds a closed file.
	done := make(chan error, 1)
	go func() { done <- inflate(spool, bufio.NewReaderSize(&contextReader{ctx, r}, copyBuffer)) }()
	select {
	case err = <-done:
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	if err != nil {
		spool.Close()
		return nil, fmt.Errorf("reading the archive: %w", truncationHint(err))
	}
	return indexArchive(ctx, spool)
}

// sniffFile returns the compression of a file and rewinds it.
func sniffFile(f *os.File) (string, error) {
	head := make([]byte, magicLen)
	n, err := f.ReadAt(head, 0)
	if err != nil && err != io.EOF {
		return "", fmt.Errorf("reading the archive: %w", err)
	}
	return sniff(head[:n]), nil
}

// magicLen is how many bytes sniff wants to see.
const magicLen = 6

// sniff names the compression of data that starts with head by its magic
// number: gzip, zstd, xz, bzip2, or "" for anything else.
func sniff(head []byte) string {
	switch {
	case bytes.HasPrefix(head, []byte{0x1f, 0x8b}):
		return "gzip"
	case bytes.HasPrefix(head, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		return "zstd"
	case len(head) >= 4 && head[0]&0xf0 == 0x50 && bytes.Equal(head[1:4], []byte{0x2a, 0x4d, 0x18}):
		return "zstd" // a skippable frame, as zstd:chunked and pzstd write first
	case bytes.HasPrefix(head, []byte{0xfd, '7', 'z', 'X', 'Z', 0}):
		return "xz"
	case bytes.HasPrefix(head, []byte("BZh")):
		return "bzip2"
	}
	return ""
}

// inflate copies r to w, decompressing gzip and zstd.
func inflate(w io.Writer, r *bufio.Reader) error {
	head, err := r.Peek(magicLen)
	if err != nil && err != io.EOF {
		return err
	}
	switch compression := sniff(head); compression {
	case "":
		_, err = io.CopyBuffer(struct{ io.Writer }{w}, struct{ io.Reader }{r}, make([]byte, copyBuffer))
	case "gzip":
		err = inflateGzip(w, r)
	case "zstd":
		err = inflateZstd(w, r)
	default:
		err = &HintError{Err: fmt.Errorf("%s is not a compression of images", compression), Hint: "decompress it first"}
	}
	return err
}

// inflateGzip reads members up to the end of r, and zero padding after any of
// them, as gzip(1) does and a plain gzip.Reader does not.
func inflateGzip(w io.Writer, r *bufio.Reader) error {
	zr, err := gzip.NewReader(r)
	if err != nil {
		return err
	}
	buf := make([]byte, copyBuffer)
	for {
		zr.Multistream(false)
		if _, err := io.CopyBuffer(struct{ io.Writer }{w}, struct{ io.Reader }{zr}, buf); err != nil {
			return err
		}
		if err := skipZeros(r); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		if err := zr.Reset(r); err != nil {
			return err
		}
	}
}

// skipZeros reads zero bytes; io.EOF if nothing follows them.
func skipZeros(r *bufio.Reader) error {
	for {
		b, err := r.ReadByte()
		if err != nil {
			return err
		}
		if b != 0 {
			return r.UnreadByte()
		}
	}
}

func inflateZstd(w io.Writer, r io.Reader) error {
	zr, err := zstd.NewReader(r, zstd.WithDecoderMaxWindow(maxZstdWindow),
		zstd.WithDecoderMaxMemory(1<<62), zstd.WithDecoderConcurrency(1))
	if err != nil {
		return err
	}
	defer zr.Close()
	_, err = io.CopyBuffer(struct{ io.Writer }{w}, struct{ io.Reader }{zr}, make([]byte, copyBuffer))
	return err
}

// indexArchive reads the headers of the plain tar file f, which the archive
// then owns. It seeks over the contents, so a large archive costs little.
func indexArchive(ctx context.Context, f *os.File) (*archive, error) {
	a := &archive{file: f, members: map[string]member{}}
	if err := a.index(ctx); err != nil {
		f.Close()
		return nil, fmt.Errorf("reading the archive: %w", truncationHint(err))
	}
	return a, nil
}

func (a *archive) index(ctx context.Context) error {
	info, err := a.file.Stat()
	if err != nil {
		return err
	}
	r := io.NewSectionReader(a.file, 0, info.Size())
	tr := tar.NewReader(r)
	for count := 0; ; count++ {
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		hdr, err := tr.Next()
		if err == io.EOF && count > 0 {
			return nil
		}
		if count == 0 && info.Size() == 0 {
			return &HintError{Err: errors.New("it is empty"), Hint: "the command that should have written it may have failed"}
		}
		if count == 0 && (err == io.EOF || errors.Is(err, tar.ErrHeader)) {
			return &HintError{Err: errors.New("not a tar archive"), Hint: "an archive comes from docker save, skopeo copy or slim"}
		}
		if err != nil {
			return err
		}
		if count >= maxMembers {
			return fmt.Errorf("more than %d members", maxMembers)
		}
		// The reader consumes whole blocks and reads no further: after Next
		// it stands where the content begins.
		offset, err := r.Seek(0, io.SeekCurrent)
		if err != nil {
			return err
		}
		a.names += len(hdr.Name) + len(hdr.Linkname)
		if a.names > maxNames {
			return fmt.Errorf("more than %d bytes of member names", maxNames)
		}
		a.add(hdr, offset)
	}
}

// add enters one header into the table. Of several members of one name the
// last counts; a hard link means the member that had the name when it was
// read.
func (a *archive) add(hdr *tar.Header, offset int64) {
	m := member{offset: offset, size: hdr.Size}
	switch {
	case isSparse(hdr):
		m.broken = "it is stored as a sparse file"
	case hdr.Typeflag == tar.TypeReg || hdr.Typeflag == '7':
	case hdr.Typeflag == tar.TypeSymlink && hdr.Linkname != "":
		m.symlink = hdr.Linkname
	case hdr.Typeflag == tar.TypeLink:
		target, ok := a.members[path.Clean(hdr.Linkname)]
		if m = target; !ok {
			m.broken = fmt.Sprintf("it is a hard link to %.100q, which is not before it", hdr.Linkname)
		}
	case hdr.Typeflag == tar.TypeXGlobalHeader:
		return
	default:
		m.broken = "it is not a regular file"
	}
	a.members[path.Clean(hdr.Name)] = m
}

// isSparse tells whether the content is stored with its holes left out, so
// that it cannot be read as one range of the archive.
func isSparse(hdr *tar.Header) bool {
	if hdr.Typeflag == tar.TypeGNUSparse {
		return true
	}
	for key := range hdr.PAXRecords {
		if strings.HasPrefix(key, "GNU.sparse.") {
			return true
		}
	}
	return false
}

// find resolves a name through the links of the archive to a member with
// content. The error wraps fs.ErrNotExist where there is none.
func (a *archive) find(name string) (member, error) {
	at := name
	for range maxLinkHops {
		if escapes(at) {
			return member{}, fmt.Errorf("%.200q leads out of the archive", name)
		}
		m, ok := a.members[path.Clean(at)]
		if !ok {
			return member{}, fmt.Errorf("%.200q: %w", name, fs.ErrNotExist)
		}
		if m.broken != "" {
			return member{}, fmt.Errorf("%.200q cannot be read: %s", name, m.broken)
		}
		if m.symlink == "" {
			return m, nil
		}
		if path.IsAbs(m.symlink) {
			return member{}, fmt.Errorf("%.200q leads out of the archive", name)
		}
		at = path.Join(path.Dir(path.Clean(at)), m.symlink)
	}
	return member{}, fmt.Errorf("%.200q: more than %d links", name, maxLinkHops)
}

// escapes tells whether a name is absolute or climbs above its root.
func escapes(name string) bool {
	clean := path.Clean(name)
	return name == "" || path.IsAbs(clean) || clean == ".." || strings.HasPrefix(clean, "../")
}

// has tells whether the name leads to a member with content.
func (a *archive) has(name string) bool {
	_, err := a.find(name)
	return err == nil
}

// open returns a member's content.
func (a *archive) open(name string) (io.ReadCloser, error) {
	m, err := a.find(name)
	if err != nil {
		return nil, err
	}
	return io.NopCloser(io.NewSectionReader(a.file, m.offset, m.size)), nil
}

// read returns a member's whole content, which must not be above limit bytes.
func (a *archive) read(name string, limit int64) ([]byte, error) {
	m, err := a.find(name)
	if err != nil {
		return nil, err
	}
	if m.size > limit {
		return nil, fmt.Errorf("%.200q: %d bytes are more than %d", name, m.size, limit)
	}
	data := make([]byte, m.size)
	if _, err := a.file.ReadAt(data, m.offset); err != nil {
		return nil, fmt.Errorf("reading %.200q: %w", name, err)
	}
	return data, nil
}

// Close closes the archive's file; a spool is gone with it.
func (a *archive) Close() error { return a.file.Close() }

// truncationHint adds a remedy to the error that a cut-off archive gives.
func truncationHint(err error) error {
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return &HintError{Err: err, Hint: "the archive is cut off: write or fetch it again"}
	}
	return err
}
