package layer

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"slim/internal/flatten"
	"slim/internal/tartest"
)

func openCache(t testing.TB, dir string) *Cache {
	t.Helper()
	c, err := OpenCache(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// baseBlob is a layer as a kept base has it: without contents.
func baseBlob(stored, plain []byte) Blob {
	b := blobOf(stored, plain)
	b.Bodies = false
	return b
}

// unopened is a blob that cannot be opened.
func unopened(b Blob) Blob {
	b.Open = func(context.Context) (io.ReadCloser, error) { return nil, errors.New("opened") }
	return b
}

// readSet reads blobs, and closes the set with the test.
func readSet(t testing.TB, c *Cache, blobs ...Blob) *Set {
	t.Helper()
	s, err := Read(t.Context(), blobs, ReadOptions{TempDir: t.TempDir(), Cache: c})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

func entriesOf(t testing.TB, s *Set, i int) []flatten.Entry {
	t.Helper()
	var entries []flatten.Entry
	for e, err := range s.Entries(i) {
		if err != nil {
			t.Fatal(err)
		}
		entries = append(entries, e)
	}
	return entries
}

// sameLayers compares what two sets say of their layers, and which attributes are
// shared in each.
func sameLayers(t *testing.T, got, want *Set) {
	t.Helper()
	var gotAttrs, wantAttrs []*flatten.Attr
	for i, w := range want.Layers {
		g := got.Layers[i]
		if g.Compression != w.Compression || g.Inflated != w.Inflated {
			t.Errorf("layer %d: got %s of %d bytes, want %s of %d", i, g.Compression, g.Inflated, w.Compression, w.Inflated)
		}
		ge, we := entriesOf(t, got, i), entriesOf(t, want, i)
		if !reflect.DeepEqual(ge, we) {
			t.Errorf("layer %d: got entries %+v, want %+v", i, ge, we)
			continue
		}
		for j := range we {
			gotAttrs, wantAttrs = append(gotAttrs, ge[j].Attr), append(wantAttrs, we[j].Attr)
		}
	}
	for i, g := range gotAttrs {
		if first := slices.Index(gotAttrs, g); first != slices.Index(wantAttrs, wantAttrs[i]) {
			t.Errorf("attributes of entry %d are shared with those of %d", i, first)
		}
	}
}

// richLayer has all that an entry can hold.
func richLayer(t testing.TB) []byte {
	t.Helper()
	xattrs := map[string]string{"SCHILY.xattr.user.nul": "a\x00\nb", "SCHILY.xattr.security.capability": "\x01\x00\x00\x02", "comment": "text"}
	headers := []tar.Header{
		{Typeflag: tar.TypeXGlobalHeader, Name: "pax_global_header", PAXRecords: map[string]string{"comment": "commit"}},
		{Typeflag: tar.TypeDir, Name: "./", Mode: 0o755},
		{Typeflag: tar.TypeDir, Name: "d/", Mode: 0o1777, Uid: 3e9, Gid: -1, ModTime: time.Unix(1, 123456789)},
		{Typeflag: tar.TypeReg, Name: "d/past", Mode: 0o644, ModTime: time.Unix(-5, 1), Size: 4, PAXRecords: xattrs},
		{Typeflag: tar.TypeReg, Name: "d/again", Mode: 0o644, Size: 4, PAXRecords: xattrs},
		{Typeflag: tar.TypeReg, Name: "d/a\n*é", Mode: 0o4755, Size: 4},
		{Typeflag: tar.TypeReg, Name: "d/empty", Mode: 0o644},
		{Typeflag: tar.TypeReg, Name: strings.Repeat("n", flatten.MaxName), Mode: 0o644},
		{Typeflag: tar.TypeReg, Name: strings.Repeat("deep/", 800) + "f", Mode: 0o644, Size: 4},
		{Typeflag: tar.TypeSymlink, Name: "d/link", Linkname: "..//../x/./", Mode: 0o777},
		{Typeflag: tar.TypeLink, Name: "d/hard", Linkname: "/d/./past", Mode: 0o644, PAXRecords: xattrs},
		{Typeflag: tar.TypeChar, Name: "c", Devmajor: 1, Devminor: maxDevice, Mode: 0o600},
		{Typeflag: tar.TypeBlock, Name: "b", Devmajor: 8, Mode: 0o600},
		{Typeflag: tar.TypeFifo, Name: "p", Mode: 0o600},
		{Typeflag: tar.TypeReg, Name: "d/.wh.gone", Size: 4},
		{Typeflag: tar.TypeReg, Name: "d/.wh..wh.gone"},
		{Typeflag: tar.TypeReg, Name: "d/.wh..wh..opq"},
		{Typeflag: tar.TypeReg, Name: ".wh..wh..opq"},
		{Typeflag: tar.TypeDir, Name: ".wh..wh.plnk/"},
		{Typeflag: tar.TypeReg, Name: ".wh..wh.plnk/1.2", Mode: 0o644, Size: 4},
		{Typeflag: tar.TypeLink, Name: "linked", Linkname: ".wh..wh.plnk/1.2", Mode: 0o644},
	}
	var buf bytes.Buffer
	tw := tar.NewWriter(&buf)
	for _, h := range headers {
		if h.Typeflag != tar.TypeXGlobalHeader {
			h.Format = tar.FormatPAX
		}
		if err := tw.WriteHeader(&h); err != nil {
			t.Fatalf("%q: %v", h.Name, err)
		}
		if h.Size > 0 {
			fmt.Fprintf(tw, "%04d", h.Mode%1000)
		}
	}
	if err := tw.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// largeLayer has more rows than stay in memory.
func largeLayer(t testing.TB) []byte { return layerOf(t, 4000) }

// TestCacheSame compares layers from the cache with the same layers read.
func TestCacheSame(t *testing.T) {
	rich, large := richLayer(t), largeLayer(t)
	blobs := []Blob{
		baseBlob(rich, rich),
		baseBlob(gzipped(large), large),
		baseBlob(zstded(t, 1<<20, rich), rich),
		baseBlob(edit(tarOf(t, tar.Header{Name: "a\xff\xfe", Format: tar.FormatGNU}, ""), 156, "7"), nil),
		baseBlob(oldSparse(t), nil),
		baseBlob(make([]byte, 1024), nil),
		baseBlob(tartest.Tars("✗gone")[0], nil),
	}
	for i := range blobs {
		if blobs[i].DiffID == digestOf(nil) {
			blobs[i].DiffID = blobs[i].Digest
		}
	}
	want := readSet(t, nil, blobs...)
	cache := openCache(t, t.TempDir())
	for i, l := range readSet(t, cache, blobs...).Layers {
		if l.Cached {
			t.Errorf("layer %d comes from an empty cache", i)
		}
	}
	again := slices.Clone(blobs)
	for i := range again {
		again[i] = unopened(again[i])
	}
	got := readSet(t, cache, again...)
	sameLayers(t, got, want)
	for i, l := range got.Layers {
		if !l.Cached {
			t.Errorf("layer %d was not cached", i)
		}
	}
	mixed := slices.Clone(again)
	mixed[1] = blobs[1]
	mixed[1].Digest = ""
	unknown := mixed[0]
	unknown.Size = -1
	mixed[0] = unknown
	sameLayers(t, readSet(t, cache, mixed...), want)
}

type randomSource struct{ *rand.Rand }

func (r randomSource) Intn(n int) int { return r.IntN(n) }

// TestCacheRandom takes many layers from the cache: no row that is written may be
// refused.
func TestCacheRandom(t *testing.T) {
	source := randomSource{rand.New(rand.NewPCG(1, 2))}
	cache := openCache(t, t.TempDir())
	for range 50 {
		stack := tartest.Random(source, false)
		var blobs, again []Blob
		for _, l := range tartest.Tars(stack) {
			blobs = append(blobs, baseBlob(l, l))
			again = append(again, unopened(baseBlob(l, l)))
		}
		want := readSet(t, cache, blobs...)
		sameLayers(t, readSet(t, cache, again...), want)
	}
}

// cachedFile caches a layer and returns the path of its file.
func cachedFile(t *testing.T, dir string, b Blob) string {
	t.Helper()
	readSet(t, openCache(t, dir), b)
	return filepath.Join(dir, cacheName(cacheKey(b)))
}

// TestCacheForm pins the bytes of a file: whoever changes them, or what is read of a
// header, has to count up the schema in cacheMagic.
func TestCacheForm(t *testing.T) {
	rich := richLayer(t)
	b, err := os.ReadFile(cachedFile(t, t.TempDir(), baseBlob(rich, rich)))
	if err != nil {
		t.Fatal(err)
	}
	const want = "sha256:e38331fca22dbbfa5ed68de44171c72f5bbe0968f62e149f2977684f9b7c2074"
	if got := digestOf(b); got != want {
		t.Errorf("the file has the digest %s, want %s", got, want)
	}
}

// TestCacheBadFile spoils the file of a layer: the layer is read again, and its file
// is as before.
func TestCacheBadFile(t *testing.T) {
	plain := tartest.Tars("d/ d/f=content{user.k=v} l→d/f ✗x")[0]
	other := tartest.Tars("other")[0]
	blob := baseBlob(plain, plain)
	want := readSet(t, nil, blob)
	type spoiler func(t *testing.T, path string, b []byte)
	write := func(change func([]byte) []byte) spoiler {
		return func(t *testing.T, path string, b []byte) {
			if err := os.WriteFile(path, change(b), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	instead := func(make func(path string) error) spoiler {
		return func(t *testing.T, path string, _ []byte) {
			if err := errors.Join(os.Rename(path, path+".away"), make(path)); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, c := range []struct {
		name  string
		spoil spoiler
	}{
		{"empty", write(func([]byte) []byte { return nil })},
		{"truncated", write(func(b []byte) []byte { return b[:len(b)-1] })},
		{"with data behind", write(func(b []byte) []byte { return append(b, 0) })},
		{"one bit in the rows", write(func(b []byte) []byte { b[len(b)/2] ^= 1; return b })},
		{"one bit in the checksum", write(func(b []byte) []byte { b[len(b)-1] ^= 1; return b })},
		{"another schema", write(func(b []byte) []byte { b[len(cacheMagic)-2]++; return sealed(b) })},
		{"another magic", write(func(b []byte) []byte { b[0]++; return sealed(b) })},
		{"another layer", func(t *testing.T, path string, _ []byte) {
			if err := os.Rename(cachedFile(t, filepath.Dir(path), baseBlob(other, other)), path); err != nil {
				t.Fatal(err)
			}
		}},
		{"larger than a cache", instead(func(path string) error {
			return errors.Join(os.WriteFile(path, nil, 0o600), os.Truncate(path, cacheLimit+1))
		})},
		{"symlink", instead(func(path string) error { return os.Symlink(filepath.Base(path)+".away", path) })},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			path := cachedFile(t, dir, blob)
			before, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			c.spoil(t, path, slices.Clone(before))
			cache := openCache(t, dir)
			got := readSet(t, cache, blob)
			sameLayers(t, got, want)
			if got.Layers[0].Cached {
				t.Error("the layer comes from the cache")
			}
			if after, err := os.ReadFile(path); err != nil || !bytes.Equal(after, before) {
				t.Errorf("the file is not replaced: %v", err)
			}
			sameLayers(t, readSet(t, cache, unopened(blob)), want)
		})
	}
}

// TestCacheBlocked puts in the place of a file what cannot be replaced by one.
func TestCacheBlocked(t *testing.T) {
	plain := tartest.Tars("f")[0]
	blob, dir := baseBlob(plain, plain), t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, cacheName(cacheKey(blob)), "d"), 0o700); err != nil {
		t.Fatal(err)
	}
	cache := openCache(t, dir)
	sameLayers(t, readSet(t, cache, blob), readSet(t, nil, blob))
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	sameLayers(t, readSet(t, cache, blob), readSet(t, nil, blob))
}

// sealed returns the bytes of a file with a checksum that holds.
func sealed(b []byte) []byte {
	b = slices.Clone(b[:len(b)-32])
	sum, _ := hex.DecodeString(strings.TrimPrefix(digestOf(b), "sha256:"))
	return append(b, sum...)
}

// TestCacheDecode cuts and changes a file at every byte, with a checksum that holds:
// a cut one is refused, a changed one does no harm.
func TestCacheDecode(t *testing.T) {
	plain := tartest.Tars("d/ d/f=content{user.k=v} h⇒d/f{user.k=v} l→d/f p!c1,2 ✗x")[0]
	blob := baseBlob(plain, plain)
	whole, err := os.ReadFile(cachedFile(t, t.TempDir(), blob))
	if err != nil {
		t.Fatal(err)
	}
	decode := func(b []byte) error {
		_, err := decodeCached(bytes.NewReader(b), int64(len(b)), cacheKey(blob))
		return err
	}
	if err := decode(sealed(whole)); err != nil {
		t.Fatal(err)
	}
	for n := range len(whole) - 1 {
		cut := whole[:n]
		if n >= 32 {
			cut = sealed(cut)
		}
		if decode(cut) == nil {
			t.Errorf("cut to %d of %d bytes it is taken", n, len(whole))
		}
	}
	kind, dir := flatten.Kind(0), t.TempDir()
	cache, path := openCache(t, dir), filepath.Join(dir, cacheName(cacheKey(blob)))
	for i := range whole[:len(whole)-32] {
		for _, bits := range []byte{1, 0x80, 0xff} {
			b := slices.Clone(whole)
			b[i] ^= bits
			b = sealed(b)
			if decode(b) != nil {
				continue
			}
			if err := os.WriteFile(path, b, 0o600); err != nil {
				t.Fatal(err)
			}
			for _, e := range entriesOf(t, readSet(t, cache, blob), 0) {
				kind = max(kind, e.Kind)
			}
		}
	}
	if kind > flatten.Metadata {
		t.Errorf("entries of the unknown kind %d", kind)
	}
}

// TestCacheStrict encodes what no reading makes; it is refused.
func TestCacheStrict(t *testing.T) {
	attr, sum := &flatten.Attr{Mode: 0o644}, new(flatten.Sum)
	file := flatten.Entry{Path: "f", Attr: attr, Off: flatten.NoBody}
	with := func(change func(e *flatten.Entry)) []flatten.Entry {
		e := file
		change(&e)
		return []flatten.Entry{e}
	}
	withAttr := func(a flatten.Attr) []flatten.Entry { return with(func(e *flatten.Entry) { e.Attr = &a }) }
	for _, c := range []struct {
		name    string
		entries []flatten.Entry
		layer   Layer
		good    bool
	}{
		{name: "a file", entries: []flatten.Entry{file}, good: true},
		{name: "nothing", good: true},
		{name: "unknown kind", entries: with(func(e *flatten.Entry) { e.Kind = flatten.Metadata + 1 })},
		{name: "path out of the root", entries: with(func(e *flatten.Entry) { e.Path = "../f" })},
		{name: "absolute path", entries: with(func(e *flatten.Entry) { e.Path = "/f" })},
		{name: "path that is not clean", entries: with(func(e *flatten.Entry) { e.Path = "a//f" })},
		{name: "long path", entries: with(func(e *flatten.Entry) { e.Path = strings.Repeat("a/", flatten.MaxPath) + "f" })},
		{name: "a second of nanoseconds", entries: with(func(e *flatten.Entry) { e.Nsec = 1e9 })},
		{name: "negative nanoseconds", entries: with(func(e *flatten.Entry) { e.Nsec = -1 })},
		{name: "negative size", entries: with(func(e *flatten.Entry) { e.Size = -1 })},
		{name: "file without a sum", entries: with(func(e *flatten.Entry) { e.Size = 1 })},
		{name: "sum of nothing", entries: with(func(e *flatten.Entry) { e.Sum = sum })},
		{name: "content in a spool", entries: with(func(e *flatten.Entry) { e.Size, e.Sum, e.Off = 1, sum, 0 })},
		{name: "directory with content", entries: with(func(e *flatten.Entry) { e.Kind, e.Size, e.Sum = flatten.Dir, 1, sum })},
		{name: "file with a link", entries: with(func(e *flatten.Entry) { e.Link = "a" })},
		{name: "symlink without a target", entries: with(func(e *flatten.Entry) { e.Kind = flatten.Symlink })},
		{name: "symlink with a NUL", entries: with(func(e *flatten.Entry) { e.Kind, e.Link = flatten.Symlink, "\x00" })},
		{name: "hardlink out of the root", entries: with(func(e *flatten.Entry) { e.Kind, e.Link = flatten.Hardlink, "../f" })},
		{name: "marker with attributes", entries: with(func(e *flatten.Entry) { e.Kind = flatten.Whiteout })},
		{name: "file without attributes", entries: with(func(e *flatten.Entry) { e.Attr = nil })},
		{name: "two of one place", entries: []flatten.Entry{file, file}},
		{name: "mode out of range", entries: withAttr(flatten.Attr{Mode: 0o10000})},
		{name: "device out of range", entries: withAttr(flatten.Attr{DevMinor: maxDevice + 1})},
		{name: "records without order", entries: withAttr(flatten.Attr{Records: []flatten.Record{{Key: "b"}, {Key: "a"}}})},
		{name: "record twice", entries: withAttr(flatten.Attr{Records: []flatten.Record{{Key: "a"}, {Key: "a"}}})},
		{name: "record of a field", entries: withAttr(flatten.Attr{Records: []flatten.Record{{Key: "path"}}})},
		{name: "record of an overlay", entries: withAttr(flatten.Attr{Records: []flatten.Record{{Key: "SCHILY.xattr.trusted.overlay.opaque"}}})},
		{name: "inflated over the limit", layer: Layer{Inflated: MaxInflated + 1}},
		{name: "negative length", layer: Layer{stored: -1}},
		{name: "unknown compression", layer: Layer{Compression: "lz4"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := &c.layer
			if l.Compression == "" {
				l.Compression = None
			}
			l.Index = newIndex(t.TempDir(), newAttrs())
			for _, e := range c.entries {
				if err := l.Index.add(e); err != nil {
					t.Fatal(err)
				}
			}
			var buf bytes.Buffer
			err := encodeCached(t.Context(), &buf, cacheLimit, flatten.Sum{}, l)
			if err == nil {
				_, err = decodeCached(bytes.NewReader(buf.Bytes()), int64(buf.Len()), flatten.Sum{})
			}
			if (err == nil) != c.good {
				t.Errorf("got %v", err)
			}
		})
	}
}

// TestCacheTakes are the layers that neither come from the cache nor go there.
func TestCacheTakes(t *testing.T) {
	plain := tartest.Tars("f")[0]
	for _, c := range []struct {
		name   string
		change func(*Blob)
		want   string
	}{
		{"with contents", func(b *Blob) { b.Bodies = true }, ""},
		{"without a digest", func(b *Blob) { b.Digest = "" }, ""},
		{"without a diffID", func(b *Blob) { b.DiffID = "" }, "uncompressed layer has the diffID"},
		{"of another digest", func(b *Blob) { b.Digest = digestOf(nil) }, "layer has the digest"},
		{"of another diffID", func(b *Blob) { b.DiffID = digestOf(nil) }, "uncompressed layer has the diffID"},
		{"of another size", func(b *Blob) { b.Size++ }, "its descriptor says"},
	} {
		t.Run(c.name, func(t *testing.T) {
			blob := baseBlob(plain, plain)
			c.change(&blob)
			for _, filled := range []bool{false, true} {
				dir := t.TempDir()
				cache, want := openCache(t, dir), 0
				if filled {
					readSet(t, cache, baseBlob(plain, plain))
					want = 1
				}
				s, err := Read(t.Context(), []Blob{blob}, ReadOptions{TempDir: t.TempDir(), Cache: cache})
				if err == nil {
					s.Close()
					if s.Layers[0].Cached || c.want != "" {
						t.Errorf("read without %q; cached: %t", c.want, s.Layers[0].Cached)
					}
				} else if c.want == "" || !strings.Contains(err.Error(), c.want) {
					t.Errorf("got %v, want %q", err, c.want)
				}
				if names := namesIn(t, dir); len(names) != want {
					t.Errorf("the cache holds %q, want %d files", names, want)
				}
			}
		})
	}
}

func namesIn(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// TestCacheEvict fills a cache for two layers with three: the one that was not used
// for longest goes, and a set that has it open keeps it.
func TestCacheEvict(t *testing.T) {
	dir := t.TempDir()
	cache := openCache(t, dir)
	large := largeLayer(t)
	var blobs []Blob
	for i := range 3 {
		b := append(slices.Clone(large), byte(i))
		blobs = append(blobs, baseBlob(b, b))
	}
	path := func(i int) string { return filepath.Join(dir, cacheName(cacheKey(blobs[i]))) }
	used := func(path string, ago time.Duration) {
		at := time.Now().Add(-ago)
		if err := os.Chtimes(path, at, at); err != nil {
			t.Fatal(err)
		}
	}
	want := readSet(t, cache, blobs[1])
	readSet(t, cache, blobs[0])
	fi, err := os.Stat(path(0))
	if err != nil {
		t.Fatal(err)
	}
	cache.limit = 2*fi.Size() + 100
	var kept []string
	for name, ago := range map[string]time.Duration{"notes": 1000 * time.Hour, "tmp-old": 25 * time.Hour, "tmp-new": 23 * time.Hour} {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, make([]byte, 2*fi.Size()), 0o600); err != nil {
			t.Fatal(err)
		}
		used(file, ago)
	}
	used(path(0), 3*time.Hour)
	used(path(1), 2*time.Hour)
	open := readSet(t, cache, unopened(blobs[1]))
	used(path(1), 2*time.Hour)
	// The hit makes 0 the younger one.
	readSet(t, cache, unopened(blobs[0]))
	readSet(t, cache, blobs[2])
	kept = append(kept, "notes", "tmp-new", filepath.Base(path(0)), filepath.Base(path(2)))
	slices.Sort(kept)
	if got := namesIn(t, dir); !slices.Equal(got, kept) {
		t.Errorf("the cache holds %q, want %q", got, kept)
	}
	sameLayers(t, open, want)

	cache.limit = fi.Size() - 1
	if l := readSet(t, cache, blobs[1]).Layers[0]; l.Cached {
		t.Error("a layer that was removed comes from the cache")
	}
	if got := namesIn(t, dir); !slices.Equal(got, kept) {
		t.Errorf("the cache holds %q, want %q: a file over the limit is not stored", got, kept)
	}
}

// TestCacheShared has several processes store and load the same layers.
func TestCacheShared(t *testing.T) {
	dir := t.TempDir()
	var blobs []Blob
	for _, l := range append(tartest.Tars("a b | c d/ | ✗a"), largeLayer(t)) {
		blobs = append(blobs, baseBlob(l, l))
	}
	want := readSet(t, nil, blobs...)
	var wg sync.WaitGroup
	sets := make([]*Set, 8)
	for i := range sets {
		cache := openCache(t, dir)
		wg.Go(func() {
			var err error
			if sets[i], err = Read(t.Context(), blobs, ReadOptions{TempDir: dir, Cache: cache}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for _, s := range sets {
		if s != nil {
			sameLayers(t, s, want)
			s.Close()
		}
	}
	if names := namesIn(t, dir); len(names) != len(blobs) {
		t.Errorf("the cache holds %q, want %d files", names, len(blobs))
	}
}

// TestCacheRecordLimit takes a layer from the cache where its attributes are too many.
func TestCacheRecordLimit(t *testing.T) {
	plain := tartest.Tars("f{user.k=v}")[0]
	blob, cache := baseBlob(plain, plain), openCache(t, t.TempDir())
	readSet(t, cache, blob)
	shared := newAttrs()
	if l, err := cache.load(blob, shared); err != nil || l == nil {
		t.Fatalf("got %v, %v", l, err)
	}
	if len(shared.byID) != 1 || shared.bytes < attrCost {
		t.Errorf("%d attributes of %d bytes are counted", len(shared.byID), shared.bytes)
	}
	full := newAttrs()
	full.bytes = MaxRecordBytes
	if l, err := cache.load(blob, full); l != nil || err == nil || !strings.Contains(err.Error(), "more than 32 MiB") {
		t.Errorf("got %v, %v", l, err)
	}
}

// TestFetchCached reads contents of a layer whose index was cached.
func TestFetchCached(t *testing.T) {
	plain := tartest.Tars("d/ d/f=content g=other h⇒g")[0]
	bomb, emptied := sparseHole(t), tartest.Tars("d/ d/f=1 g=2 h⇒g")[0]
	bomb = edit(bomb, 156, "S")
	for _, c := range []struct {
		name string
		now  []byte
		want string
	}{
		{"the same", plain, ""},
		{"shorter contents", emptied, "content has not the 7 bytes"},
		{"a hole", append(tartest.Tars("d/")[0][:512], bomb...), "content has not the 7 bytes"},
		{"data behind", append(slices.Clone(plain), 0), "layer has 4097 bytes"},
		{"another content", bytes.ReplaceAll(plain, []byte("content"), []byte("CONTENT")), "layer has the digest"},
	} {
		t.Run(c.name, func(t *testing.T) {
			cache := openCache(t, t.TempDir())
			blob := baseBlob(plain, plain)
			readSet(t, cache, blob)
			blob.Open = blobOf(c.now, c.now).Open
			s := readSet(t, cache, blob)
			inodes := inodesOf(t, s, 0)
			err := s.Fetch(t.Context(), inodes)
			if c.want != "" {
				var le *Error
				if !errors.Is(err, ErrMismatch) || !strings.Contains(err.Error(), c.want) || !errors.As(err, &le) {
					t.Errorf("got %v, want %q", err, c.want)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			checkContents(t, s, inodes, "content", "other")
		})
	}
}

// inodesOf returns the files with content of a layer, as a changeset names them.
func inodesOf(t *testing.T, s *Set, i int) []*flatten.Inode {
	t.Helper()
	var inodes []*flatten.Inode
	for _, e := range entriesOf(t, s, i) {
		if e.Size > 0 {
			inodes = append(inodes, &flatten.Inode{Layer: int32(i), Ordinal: e.Ordinal, Size: e.Size, Off: e.Off})
		}
	}
	return inodes
}

func checkContents(t *testing.T, s *Set, inodes []*flatten.Inode, want ...string) {
	t.Helper()
	var got []string
	for _, n := range inodes {
		r, err := s.Body(n)
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, string(b))
	}
	if !slices.Equal(got, want) {
		t.Errorf("got contents %q, want %q", got, want)
	}
}

func TestOpenCache(t *testing.T) {
	home := t.TempDir()
	t.Setenv("XDG_CACHE_HOME", "")
	t.Setenv("HOME", home)
	openCache(t, "")
	base, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(base, "slim", "index")
	fi, err := os.Lstat(dir)
	if err != nil || fi.Mode() != fs.ModeDir|0o700 {
		t.Fatalf("made %v, %v", fi, err)
	}
	if err := checkCacheDir(fi, os.Geteuid()+1); err == nil || !strings.Contains(err.Error(), "another user") {
		t.Errorf("another user's directory: %v", err)
	}
	link, file := filepath.Join(home, "link"), filepath.Join(home, "file")
	if err := errors.Join(os.Symlink(dir, link), os.WriteFile(file, nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, dir string
		mode      fs.FileMode
		want      string
	}{
		{"its own again", dir, 0o700, ""},
		{"readable by all", dir, 0o755, ""},
		{"writable by a group", dir, 0o720, "may write"},
		{"writable by all", dir, 0o702, "may write"},
		{"symlink", link, 0o700, "symlink"},
		{"file", file, 0o700, "not a directory"},
		{"below a file", filepath.Join(file, "x"), 0o700, "not a directory"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if err := os.Chmod(dir, c.mode); err != nil {
				t.Fatal(err)
			}
			cache, err := OpenCache(c.dir)
			if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
			if cache.Close() != nil || (cache == nil) != (c.want != "") {
				t.Errorf("got the cache %v", cache)
			}
		})
	}
	t.Setenv("HOME", "")
	if _, err := OpenCache(""); err == nil || !strings.Contains(err.Error(), "finding the cache directory") {
		t.Errorf("without a home: %v", err)
	}
}
