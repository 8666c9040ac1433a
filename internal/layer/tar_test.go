package layer

import (
	"archive/tar"
	"bufio"
	"bytes"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"slim/internal/flatten"
)

// TestHeaderIsOfArchiveTar writes headers at the bounds of their fields: the bytes are
// those of archive/tar, whichever way they are written.
func TestHeaderIsOfArchiveTar(t *testing.T) {
	number := func(digits int) *rapid.Generator[int64] {
		bound := int64(1) << (3 * digits)
		simple := rapid.OneOf(rapid.Int64Range(0, 4096), rapid.Just(bound-1))
		return rapid.OneOf(simple, simple, simple, simple, simple, rapid.SampledFrom([]int64{bound, bound + 1}))
	}
	short := rapid.StringMatching(`[a-z/.]{1,12}`)
	text := rapid.OneOf(short, short, short,
		rapid.Custom(func(t *rapid.T) string {
			return strings.Repeat("n", rapid.SampledFrom([]int{99, 100, 101, 155, 256}).Draw(t, "length"))
		}),
		rapid.SampledFrom([]string{"é", "\x7f", "\x80", "a\x00b", strings.Repeat("d", 90) + "/" + strings.Repeat("f", 90)}),
	)
	types := []byte{tar.TypeReg, tar.TypeDir, tar.TypeSymlink, tar.TypeLink, tar.TypeChar, tar.TypeBlock, tar.TypeFifo}
	seen := map[bool]int{}
	rapid.Check(t, func(t *rapid.T) {
		h := &tar.Header{
			Format: tar.FormatPAX, Typeflag: rapid.SampledFrom(types).Draw(t, "type"), Name: text.Draw(t, "name"),
			Mode: number(7).Draw(t, "mode"), Uid: int(number(7).Draw(t, "uid")), Gid: int(number(7).Draw(t, "gid")),
			Size: number(11).Draw(t, "size"), Devmajor: number(7).Draw(t, "major"), Devminor: number(7).Draw(t, "minor"),
			ModTime: time.Unix(number(11).Draw(t, "seconds")-rapid.Int64Range(0, 1).Draw(t, "before 1970"), rapid.SampledFrom([]int64{0, 0, 0, 0, 0, 1, 999999999}).Draw(t, "nanoseconds")),
		}
		if rapid.Bool().Draw(t, "linked") {
			h.Linkname = text.Draw(t, "target")
		}
		if rapid.IntRange(0, 9).Draw(t, "records") == 0 {
			h.PAXRecords = map[string]string{"SCHILY.xattr.user.k": "v"}
		}
		seen[simpleHeader(h)]++
		var want, got bytes.Buffer
		wantErr := tar.NewWriter(&want).WriteHeader(h)
		w := &tarWriter{out: bufio.NewWriter(&got)}
		gotErr := w.header(h)
		w.out.Flush()
		if (gotErr == nil) != (wantErr == nil) || !bytes.Equal(got.Bytes(), want.Bytes()) {
			t.Fatalf("%+v:\n%q, %v\nwant\n%q, %v", h, got.Bytes(), gotErr, want.Bytes(), wantErr)
		}
	})
	t.Log(seen)
	if seen[true] == 0 || seen[false] == 0 {
		t.Errorf("simple or not: %v", seen)
	}
}

// TestWindow reads in and out of order and past the end: a window changes nothing.
func TestWindow(t *testing.T) {
	data := make([]byte, 5*windowSize+123)
	r := rand.New(rand.NewPCG(3, 4))
	for i := range data {
		data[i] = byte(r.Uint32())
	}
	w := &window{from: bytes.NewReader(data)}
	off := 0
	for i := range 20_000 {
		if i%7 == 0 {
			off = r.IntN(len(data) + 10)
		}
		want, got := make([]byte, r.IntN(2*windowSize)>>r.IntN(12)), []byte(nil)
		got = make([]byte, len(want))
		n, err := bytes.NewReader(data).ReadAt(want, int64(off))
		m, gotErr := w.ReadAt(got, int64(off))
		// An empty read at the end may or may not tell of it.
		if m != n || len(want) > 0 && gotErr != err || !bytes.Equal(got, want) {
			t.Fatalf("%d bytes at %d: %d, %v; want %d, %v", len(want), off, m, gotErr, n, err)
		}
		off += n
	}
}

// TestWriteShortBody writes a file of which the spool has less than its size.
func TestWriteShortBody(t *testing.T) {
	it := flatten.Item{Path: "a", Kind: flatten.File, Inode: &flatten.Inode{Kind: flatten.File, Attr: &flatten.Attr{}, Size: 3}}
	body := func(*flatten.Inode) (*io.SectionReader, error) {
		return io.NewSectionReader(strings.NewReader("ab"), 0, 3), nil
	}
	_, err := Write(t.Context(), func(yield func(flatten.Item) bool) { yield(it) }, body, WriteOptions{TempDir: t.TempDir()})
	if err == nil || !strings.Contains(err.Error(), `writing "a": unexpected EOF`) {
		t.Errorf("error %v", err)
	}
}
