package layer

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"slim/internal/tartest"
)

// manyHeaders are like those of a base layer: few attributes, one directory for
// every eight files.
func manyHeaders(n int) []*tar.Header {
	headers := make([]*tar.Header, n)
	for i := range headers {
		h := &tar.Header{Typeflag: tar.TypeReg, Mode: 0o644, Name: fmt.Sprintf("usr/share/doc/package-%d/file-%d", i/8, i%8), ModTime: time.Unix(1_700_000_000+int64(i), 0), Size: int64(i)}
		switch i % 8 {
		case 0:
			h.Typeflag, h.Mode, h.Name, h.Size = tar.TypeDir, 0o755, fmt.Sprintf("usr/share/doc/package-%d", i/8), 0
		case 1:
			h.PAXRecords = map[string]string{"SCHILY.xattr.security.capability": "\x01\x00\x00\x02"}
		}
		headers[i] = h
	}
	return headers
}

// layerOf is a layer of many entries, with a byte in each file.
func layerOf(t testing.TB, n int) []byte {
	t.Helper()
	var buf bytes.Buffer
	tw := tar.NewWriter(&buf)
	for _, h := range manyHeaders(n) {
		h.Size = min(h.Size, 1)
		if err := tw.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(tw, "x"[:h.Size]); err != nil {
			t.Fatal(err)
		}
	}
	if err := tw.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func BenchmarkIndex(b *testing.B) {
	headers := manyHeaders(100_000)
	b.ReportAllocs()
	for b.Loop() {
		shared := newAttrs()
		x := newIndex(b.TempDir(), shared)
		for i, h := range headers {
			e, _, err := entryOf(h)
			if err != nil {
				b.Fatal(err)
			}
			e.Ordinal = int32(i)
			if err := x.add(e); err != nil {
				b.Fatal(err)
			}
		}
		x.file.close()
	}
}

// BenchmarkCached loads an index of 100,000 entries; BenchmarkUncached reads the
// same layer, which has a byte in each file.
func BenchmarkCached(b *testing.B) {
	benchmarkRead(b, openCache(b, b.TempDir()))
}

func BenchmarkUncached(b *testing.B) { benchmarkRead(b, nil) }

func benchmarkRead(b *testing.B, c *Cache) {
	plain := layerOf(b, 100_000)
	blobs := []Blob{baseBlob(gzipped(plain), plain)}
	dir := b.TempDir()
	readSet(b, c, blobs...)
	b.ReportAllocs()
	for b.Loop() {
		s, err := Read(b.Context(), blobs, ReadOptions{TempDir: dir, Cache: c})
		if err != nil {
			b.Fatal(err)
		}
		s.Close()
	}
}

// TestLinkAgain reads long targets of symlinks a second time, from indexes in memory
// and in files, just read and cached.
func TestLinkAgain(t *testing.T) {
	for _, n := range []int{2, 40} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			stack := "f=content short→f"
			for i := range n {
				stack += fmt.Sprintf(" d%02d→%sf%d g%02d", i, strings.Repeat("./", 1500), i, i)
			}
			plain := tartest.Tars(stack)[0]
			c := openCache(t, t.TempDir())
			blob := baseBlob(plain, plain)
			for _, b := range []Blob{blobOf(plain, plain), blob, unopened(blob)} {
				long := 0
				for _, e := range entriesOf(t, readSet(t, c, b), 0) {
					if e.LinkAgain == nil {
						continue
					}
					long++
					if got, err := e.LinkAgain(); err != nil || got != e.Link {
						t.Errorf("%q leads to %.20q: %v, first it was %.20q", e.Path, got, err, e.Link)
					}
				}
				if long != n {
					t.Errorf("%d targets can be read again, want %d", long, n)
				}
			}
		})
	}
}
