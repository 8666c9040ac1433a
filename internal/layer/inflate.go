package layer

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// Compression is how the bytes of a layer are stored.
type Compression string

// The compressions that layers may have.
const (
	None Compression = "none"
	Gzip Compression = "gzip"
	Zstd Compression = "zstd"
)

// foreignMagics start formats that no engine accepts in a layer.
var foreignMagics = map[string]string{
	"\xfd7zXZ\x00": "xz", "BZh91A": "bzip2", "\x04\x22\x4d\x18": "lz4", "PK\x03\x04": "zip",
}

// sniff tells the compression by content: media types are known to lie
// (containerd issue 10134).
func sniff(r *bufio.Reader) (Compression, error) {
	head, err := r.Peek(6)
	if err != nil && !errors.Is(err, io.EOF) {
		return "", err
	}
	for magic, name := range foreignMagics {
		if bytes.HasPrefix(head, []byte(magic)) {
			return "", fmt.Errorf("%s data: layers are tar, gzip or zstd", name)
		}
	}
	switch {
	case bytes.HasPrefix(head, []byte("\x1f\x8b")):
		return Gzip, nil
	case isZstd(head):
		return Zstd, nil
	}
	return None, nil
}

// isZstd reports the magic of a zstd frame or of a skippable one.
func isZstd(b []byte) bool {
	return bytes.HasPrefix(b, []byte("\x28\xb5\x2f\xfd")) ||
		len(b) >= 4 && b[0]&0xf0 == 0x50 && b[1] == 0x2a && b[2] == 0x4d && b[3] == 0x18
}

// errWindow asks to decode the layer again, alone, with a larger window.
var errWindow = errors.New("zstd window over 8 MiB")

// inflate returns the uncompressed stream of r. wide allows zstd windows over
// smallWindow; without it they are errWindow.
func inflate(r *bufio.Reader, c Compression, wide bool) (io.ReadCloser, error) {
	switch c {
	case Gzip:
		return &gzipReader{src: r}, nil
	case Zstd:
		window := uint64(smallWindow)
		if wide {
			window = maxWindow
		}
		d, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(window))
		if err != nil {
			return nil, err
		}
		return &zstdReader{d: d, wide: wide}, nil
	}
	return io.NopCloser(r), nil
}

type zstdReader struct {
	d    *zstd.Decoder
	wide bool
}

func (z *zstdReader) Read(p []byte) (int, error) {
	n, err := z.d.Read(p)
	if errors.Is(err, zstd.ErrWindowSizeExceeded) || errors.Is(err, zstd.ErrDecoderSizeExceeded) {
		if !z.wide {
			return n, errWindow
		}
		return n, fmt.Errorf("zstd window over %d MiB", maxWindow>>20)
	}
	return n, err
}

func (z *zstdReader) Close() error {
	z.d.Close()
	return nil
}

// gzipReader reads one or more gzip members and the zero padding that gzip(1)
// accepts after them.
type gzipReader struct {
	src *bufio.Reader
	zr  *gzip.Reader
}

func (g *gzipReader) Read(p []byte) (int, error) {
	for {
		if g.zr == nil {
			if err := g.next(); err != nil {
				return 0, err
			}
		}
		n, err := g.zr.Read(p)
		if !errors.Is(err, io.EOF) {
			return n, err
		}
		more, err := g.afterMember()
		if err != nil {
			return n, err
		}
		if !more {
			return n, io.EOF
		}
		if err := g.next(); err != nil {
			return n, err
		}
		if n > 0 {
			return n, nil
		}
	}
}

func (g *gzipReader) next() (err error) {
	if g.zr == nil {
		g.zr, err = gzip.NewReader(g.src)
	} else {
		err = g.zr.Reset(g.src)
	}
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	if err == nil {
		g.zr.Multistream(false)
	}
	return err
}

// afterMember reports whether another member follows; zeros up to the end do not.
func (g *gzipReader) afterMember() (bool, error) {
	for {
		b, err := g.src.ReadByte()
		switch {
		case errors.Is(err, io.EOF):
			return false, nil
		case err != nil:
			return false, err
		case b == 0:
			continue
		case b != 0x1f:
			return false, errors.New("data after the gzip stream")
		}
		return true, g.src.UnreadByte()
	}
}

func (g *gzipReader) Close() error { return nil }

// ctxReader ends a stream when its context is cancelled.
type ctxReader struct {
	ctx context.Context
	r   io.Reader
}

func (c ctxReader) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, context.Cause(c.ctx)
	}
	return c.r.Read(p)
}
