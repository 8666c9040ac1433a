package layer

import (
	"bytes"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"slim/internal/flatten"
	"slim/internal/tartest"
)

// large returns a layer of several compression blocks, part text, part noise.
func large(t *testing.T) []byte {
	t.Helper()
	r := rand.New(rand.NewPCG(1, 2))
	noise := make([]byte, 5<<20)
	for i := range noise {
		noise[i] = byte(r.Uint32())
	}
	text := bytes.Repeat([]byte("the quick brown fox jumps over the lazy dog\n"), 400_000)
	entries := tartest.Parse("a b⇒a c/(01777) c/d→../a")[0]
	entries[0].Body, entries[0].Size = string(text), int64(len(text))
	tail := tartest.Parse("noise")[0]
	tail[0].Body, tail[0].Size = string(noise), int64(len(noise))
	return tartest.Tar(append(entries, tail...)...)
}

// TestWriteIsStable writes one changeset with different numbers of workers.
func TestWriteIsStable(t *testing.T) {
	plain := large(t)
	s, err := Read(t.Context(), []Blob{blobOf(plain, plain)}, ReadOptions{TempDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	c := changes(t, s)
	for _, comp := range []Compression{None, Gzip, Zstd} {
		var first string
		for _, workers := range []int{1, 2, 3, 8} {
			w, err := Write(t.Context(), c.Items(), s.Body, WriteOptions{TempDir: t.TempDir(), Compression: comp, Workers: workers})
			if err != nil {
				t.Fatal(err)
			}
			if first == "" {
				first = w.Digest
				checkReadable(t, w, comp)
			}
			if w.Digest != first {
				t.Errorf("%s with %d workers: %s, with one %s", comp, workers, w.Digest, first)
			}
			w.Close()
		}
	}
}

// checkReadable reads a written layer back: its digests must hold.
func checkReadable(t *testing.T, w *Written, want Compression) {
	t.Helper()
	s, err := Read(t.Context(), []Blob{{Digest: w.Digest, Size: w.Size, DiffID: w.DiffID, Bodies: true, Open: w.Open}}, ReadOptions{TempDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if l := s.Layers[0]; l.Compression != want || l.Inflated != w.TarSize {
		t.Errorf("wrote %s of %d bytes, read %s of %d", want, w.TarSize, l.Compression, l.Inflated)
	}
	id, n, err := DiffID(t.Context(), changes(t, s).Items(), s.Body)
	if err != nil || id != w.DiffID || n != w.TarSize {
		t.Errorf("written again: %s of %d bytes, %v; want %s of %d", id, n, err, w.DiffID, w.TarSize)
	}
}

// TestWriteNothing is the layer without entries: 1024 zeros.
func TestWriteNothing(t *testing.T) {
	s, err := Read(t.Context(), nil, ReadOptions{TempDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	w, err := Write(t.Context(), changes(t, s).Items(), s.Body, WriteOptions{TempDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	const empty = "sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef"
	if w.DiffID != empty || w.Size != 1024 {
		t.Errorf("got %s of %d bytes, want %s of 1024", w.DiffID, w.Size, empty)
	}
	rc, err := w.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer rc.Close()
	if b, err := io.ReadAll(rc); err != nil || !bytes.Equal(b, make([]byte, 1024)) {
		t.Errorf("got %d bytes, %v, want zeros", len(b), err)
	}
}

// TestTarSize adds up items: the sum is the length of the tar that Write produces.
func TestTarSize(t *testing.T) {
	long := strings.Repeat("n", 200) + "/"
	for _, row := range []struct{ name, entries string }{
		{"nothing", ""},
		{"files of whole and half blocks", "e= a b=" + strings.Repeat("x", 512) + " c=" + strings.Repeat("x", 513)},
		{"all types", "./(0700) d/ d/a l→d h⇒d/a c!c1,2 b!b3,4 p!p"},
		{"long names and targets", long + " " + long + "x l→" + strings.Repeat("t", 4000) + " h⇒" + long + "x"},
		{"names beyond ASCII", "é\xff d/ d/ü"},
		{"extended attributes", "a{user.k=v} h⇒a{user.k=v} d/{user.large=" + strings.Repeat("v", 60000) + "}"},
		{"large owners and times", "a(0644,u3000000000,g4000000000,t99999999999)"},
	} {
		t.Run(row.name, func(t *testing.T) {
			plain := tartest.Tars(row.entries)[0]
			s, err := Read(t.Context(), []Blob{blobOf(plain, plain)}, ReadOptions{TempDir: t.TempDir()})
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			c := changes(t, s)
			w, err := Write(t.Context(), c.Items(), s.Body, WriteOptions{TempDir: t.TempDir()})
			if err != nil {
				t.Fatal(err)
			}
			defer w.Close()
			sum := int64(TarEnd)
			for it := range c.Items() {
				sum += TarSize(it)
			}
			if sum != w.TarSize {
				t.Errorf("%s: items take %d bytes, the tar %d", row.entries, sum, w.TarSize)
			}
		})
	}
}

// TestTarSizeOfRefused is an item that no tar can hold.
func TestTarSizeOfRefused(t *testing.T) {
	it := flatten.Item{Path: "a", Kind: flatten.File, Inode: &flatten.Inode{Attr: &flatten.Attr{}, Size: -1}}
	if n := TarSize(it); n != 0 {
		t.Errorf("got %d, want 0", n)
	}
}

// TestWriteLostTarget writes a symlink whose target could not be read back.
func TestWriteLostTarget(t *testing.T) {
	lost := flatten.Item{Path: "l", Kind: flatten.Symlink, Inode: &flatten.Inode{Kind: flatten.Symlink, Attr: &flatten.Attr{}}}
	w, err := Write(t.Context(), slices.Values([]flatten.Item{lost}), nil, WriteOptions{TempDir: t.TempDir()})
	if err == nil || !strings.Contains(err.Error(), `writing "l": the symlink's target could not be read back`) {
		t.Errorf("got %+v, %v; want an error", w, err)
	}
}
