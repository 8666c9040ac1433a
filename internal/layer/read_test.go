package layer

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"slim/internal/flatten"
	"slim/internal/tartest"
)

func digestOf(b []byte) string {
	sum := sha256.Sum256(b)
	return "sha256:" + hex.EncodeToString(sum[:])
}

func blobOf(stored, plain []byte) Blob {
	return Blob{
		Digest: digestOf(stored), Size: int64(len(stored)), DiffID: digestOf(plain), Bodies: true,
		Open: func(context.Context) (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(stored)), nil },
	}
}

func gzipped(parts ...[]byte) []byte {
	var buf bytes.Buffer
	for _, p := range parts {
		w := gzip.NewWriter(&buf)
		w.Write(p)
		w.Close()
	}
	return buf.Bytes()
}

func zstded(t *testing.T, window int, parts ...[]byte) []byte {
	t.Helper()
	var buf bytes.Buffer
	for _, p := range parts {
		w, err := zstd.NewWriter(&buf, zstd.WithWindowSize(window), zstd.WithSingleSegment(false))
		if err != nil {
			t.Fatal(err)
		}
		// Several writes, so that the frame does not know its length.
		for c := range slices.Chunk(p, max(1, len(p)/3)) {
			w.Write(c)
			w.Flush()
		}
		w.Close()
	}
	return buf.Bytes()
}

// skippable is a zstd frame that decoders pass over (RFC 8878, section 3.1.2).
var skippable = []byte{0x5a, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 'a', 'b', 'c'}

func paths(t *testing.T, s *Set) string {
	t.Helper()
	var out []string
	for e, err := range s.Entries(0) {
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, e.Path)
	}
	return strings.Join(out, " ")
}

func TestReadForms(t *testing.T) {
	plain := tartest.Tars("d/ d/f=content l→d/f h⇒d/f ✗d/x")[0]
	half := len(plain) / 2
	const want = "d d/f l h d/x"
	for _, c := range []struct {
		name         string
		stored, from []byte
		compression  Compression
	}{
		{"plain", plain, plain, None},
		{"gzip", gzipped(plain), plain, Gzip},
		{"gzip of two members", gzipped(plain[:half], plain[half:]), plain, Gzip},
		{"gzip with an empty member", gzipped(nil, plain), plain, Gzip},
		{"gzip with zero padding", append(gzipped(plain), make([]byte, 5000)...), plain, Gzip},
		{"gzip of two members with zeros between", append(append(gzipped(plain[:half]), 0, 0), gzipped(plain[half:])...), plain, Gzip},
		{"zstd", zstded(t, 1<<20, plain), plain, Zstd},
		{"zstd of two frames", zstded(t, 1<<20, plain[:half], plain[half:]), plain, Zstd},
		{"zstd with skippable frames", slices.Concat(skippable, zstded(t, 1<<20, plain), skippable), plain, Zstd},
		{"zstd with a window of 32 MiB", zstded(t, 32<<20, plain), plain, Zstd},
		{"without a trailer", plain[:len(plain)-1024], plain[:len(plain)-1024], None},
		{"with one zero block", plain[:len(plain)-512], plain[:len(plain)-512], None},
		{"data after the trailer", append(slices.Clone(plain), "rest"...), append(slices.Clone(plain), "rest"...), None},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, err := Read(t.Context(), []Blob{blobOf(c.stored, c.from)}, ReadOptions{TempDir: t.TempDir()})
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			if got := paths(t, s); got != want {
				t.Errorf("got entries %q, want %q", got, want)
			}
			if l := s.Layers[0]; l.Compression != c.compression || l.Inflated != int64(len(c.from)) {
				t.Errorf("got %s of %d bytes, want %s of %d", l.Compression, l.Inflated, c.compression, len(c.from))
			}
		})
	}
}

func TestReadErrors(t *testing.T) {
	plain := tartest.Tars("d/ d/f=" + strings.Repeat("content", 1000))[0]
	zipped := gzipped(plain)
	wide := zstded(t, 256<<20, plain)
	wrong := blobOf(plain, plain)
	wrong.Digest = digestOf(nil)
	short := blobOf(plain, plain)
	short.Size++
	diff := blobOf(zipped, plain)
	diff.DiffID = digestOf(nil)
	bad := slices.Clone(plain)
	bad[600] ^= 0xff
	for _, c := range []struct {
		name string
		blob Blob
		want string
	}{
		{"truncated tar", blobOf(plain[:2000], plain), `reading "d/f": unexpected EOF`},
		{"truncated gzip", blobOf(zipped[:len(zipped)-20], plain), "unexpected EOF"},
		{"wrong digest", wrong, "layer has the digest " + digestOf(plain)},
		{"wrong size", short, "its descriptor says"},
		{"wrong diffID", diff, "the config says " + digestOf(nil)},
		{"bad header", blobOf(bad, bad), "reading tar: "},
		{"garbage after gzip", blobOf(append(slices.Clone(zipped), "garbage"...), plain), "data after the gzip stream"},
		{"not a tar", blobOf([]byte(strings.Repeat("text", 500)), nil), "reading tar: "},
		{"xz", blobOf([]byte("\xfd7zXZ\x00...."), nil), "xz data"},
		{"zstd window of 256 MiB", blobOf(wide, plain), "zstd window over 128 MiB"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, err := Read(t.Context(), []Blob{c.blob}, ReadOptions{TempDir: t.TempDir()})
			if err == nil {
				s.Close()
				t.Fatal("read without an error")
			}
			if !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
			var le *Error
			if !errors.As(err, &le) || le.Layer != 0 {
				t.Errorf("error does not name its layer: %#v", err)
			}
		})
	}
}

func TestReadCancelled(t *testing.T) {
	plain := tartest.Tars("f")[0]
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if s, err := Read(ctx, []Blob{blobOf(plain, plain)}, ReadOptions{TempDir: t.TempDir()}); !errors.Is(err, context.Canceled) {
		s.Close()
		t.Errorf("got %v, want context.Canceled", err)
	}
}

// changes returns what the layers hold together, as one changeset.
func changes(t testing.TB, s *Set) *flatten.Changeset {
	t.Helper()
	var entries []iter.Seq2[flatten.Entry, error]
	for i := range s.Layers {
		entries = append(entries, s.Entries(i))
	}
	r, err := flatten.Replay(entries, 0)
	if err != nil {
		t.Fatal(err)
	}
	c, err := flatten.Diff(nil, r.Final, s.Sum)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestReadTwins reads blobs that are the same once, and those that only look so apart.
func TestReadTwins(t *testing.T) {
	plain := tartest.Tars("f=content g=other")[0]
	zipped := gzipped(plain)
	var opened atomic.Int32
	counted := func(b Blob, bodies bool) Blob {
		open := b.Open
		b.Bodies = bodies
		b.Open = func(ctx context.Context) (io.ReadCloser, error) {
			opened.Add(1)
			return open(ctx)
		}
		return b
	}
	a, hashed, packed := counted(blobOf(plain, plain), true), counted(blobOf(plain, plain), false), counted(blobOf(zipped, plain), true)
	nameless := a
	nameless.Digest = ""
	s := readSet(t, nil, a, hashed, packed, a, hashed, nameless, nameless, a)
	var same []int
	for _, l := range s.Layers {
		same = append(same, slices.Index(s.Layers, l))
	}
	if want := []int{0, 1, 2, 0, 1, 5, 6, 0}; !slices.Equal(same, want) || opened.Load() != 5 {
		t.Errorf("layers are those of %d, read %d times; want %d, 5 times", same, opened.Load(), want)
	}
	first, second := inodesOf(t, s, 1), inodesOf(t, s, 4)
	if err := s.Fetch(t.Context(), slices.Concat(first[1:], second)); err != nil {
		t.Fatal(err)
	}
	checkContents(t, s, slices.Concat(first[1:], second), "other", "content", "other")
	checkContents(t, s, inodesOf(t, s, 7), "content", "other")
	if err := s.Fetch(t.Context(), first); err == nil || !strings.Contains(err.Error(), "a second time") {
		t.Errorf("fetched twice: %v", err)
	}
	short := a
	short.Size--
	if _, err := Read(t.Context(), []Blob{a, short}, ReadOptions{TempDir: t.TempDir()}); !errors.Is(err, ErrMismatch) {
		t.Errorf("a blob of another size: %v", err)
	}
}

// TestCancelledAfterReading cancels what follows the reading of layers.
func TestCancelledAfterReading(t *testing.T) {
	var many strings.Builder
	many.WriteString("big=" + strings.Repeat("x", 100))
	for i := range 2 * entriesAtOnce {
		fmt.Fprintf(&many, " f%d", i)
	}
	plain := tartest.Tars(many.String())[0]
	ctx, cancel := context.WithCancelCause(t.Context())
	s, err := Read(ctx, []Blob{blobOf(plain, plain)}, ReadOptions{TempDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	cause := errors.New("stop")
	cancel(cause)
	r, err := flatten.Replay([]iter.Seq2[flatten.Entry, error]{s.Entries(0)}, 0)
	if !errors.Is(err, cause) {
		t.Errorf("replaying gives %v, %v; want %v", r, err, cause)
	}
	if _, err := s.Sum(&flatten.Inode{Size: 100}); !errors.Is(err, cause) {
		t.Errorf("hashing gives %v, want %v", err, cause)
	}
}

// TestReserve lets a large zstd window be decoded alone, and of small ones only as many
// as take no more.
func TestReserve(t *testing.T) {
	s, err := Read(t.Context(), nil, ReadOptions{TempDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	stopped := errors.New("stopped")
	ended, end := context.WithCancelCause(t.Context())
	end(stopped)
	free, err := s.reserve(t.Context(), true)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.reserve(ended, false); !errors.Is(err, stopped) {
		t.Errorf("beside a large window: %v", err)
	}
	free()
	for range maxWindow / smallWindow {
		if _, err := s.reserve(t.Context(), false); err != nil {
			t.Fatal(err)
		}
	}
	for _, wide := range []bool{false, true} {
		if _, err := s.reserve(ended, wide); !errors.Is(err, stopped) {
			t.Errorf("beside as many small ones as may be: %v", err)
		}
	}
}
