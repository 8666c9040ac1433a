package image

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/random"
)

func TestLayoutRead(t *testing.T) {
	one, two := newFixture("linux/amd64", asGzip, "a", "b"), newFixture("linux/amd64", asZstd, "c")
	arm := newFixture("linux/arm64", asTar, "d")
	named := indexOf(one.entry(refNameJSON("1")), two.entry(refNameJSON("2")), one.entry(refNameJSON("latest")))
	for _, tc := range []struct {
		name, sel, platform string
		members             []tarMember
		want                fixture
		err                 string
		hinted              bool
	}{
		{name: "only image", members: layoutMembers(indexOf(one.entry()), one), want: one},
		{name: "only image of two names", members: layoutMembers(indexOf(one.entry(refNameJSON("1")), one.entry(refNameJSON("2"))), one), want: one},
		{name: "by name", sel: "2", members: layoutMembers(named, one, two), want: two},
		{name: "by digest", sel: "@" + digestOf(two.manifest).String(), members: layoutMembers(named, one, two), want: two},
		{name: "by digest below an index", sel: "@" + digestOf(arm.manifest).String(), members: layoutMembers(named, one, arm), want: arm},
		{name: "platforms of one name", sel: "1", platform: "linux/arm64/v8", members: layoutMembers(indexOf(one.entry(refNameJSON("1")), arm.entry(refNameJSON("1"))), one, arm), want: arm},
		{name: "platforms without a name", platform: "linux/amd64", members: layoutMembers(indexOf(one.entry(), arm.entry()), one, arm), want: one},
		{name: "no such name", sel: "3", members: layoutMembers(named, one, two), err: `no image "3"`, hinted: true},
		{name: "several", members: layoutMembers(named, one, two), err: `several images: "1", "2", "latest"`, hinted: true},
		{name: "no image", members: layoutMembers(indexOf()), err: "holds no image"},
		{name: "missing manifest", members: layoutMembers(indexOf(one.entry())), err: "blob " + digestOf(one.manifest).String() + " is missing", hinted: true},
		{
			name: "missing layer", hinted: true, err: "layer 2: blob " + digestOf(one.blobs[1]).String() + " is missing",
			members: slices.DeleteFunc(layoutMembers(indexOf(one.entry()), one), func(m tarMember) bool { return m.Name == blobName(digestOf(one.blobs[1])) }),
		},
		{
			name: "manifest of another digest", err: "has other content",
			members: append(layoutMembers(indexOf(one.entry()), one), tarFile(blobName(digestOf(one.manifest)), strings.Replace(string(one.manifest), "678", "679", 1))),
		},
		{
			name: "config longer than its size", err: "is longer than",
			members: append(layoutMembers(indexOf(one.entry()), one), tarFile(blobName(digestOf(one.config)), string(one.config)+" ")),
		},
		{
			name: "truncated config", err: "ends after",
			members: append(layoutMembers(indexOf(one.entry()), one), tarFile(blobName(digestOf(one.config)), string(one.config[:20]))),
		},
		{name: "huge manifest", members: layoutMembers(indexOf(fmt.Sprintf(`{"mediaType":%q,"digest":%q,"size":%d}`, one.mediaType, digestOf(nil), int64(1)<<40)), one), err: "blob " + digestOf(nil).String() + " is missing", hinted: true},
		{name: "huge index", members: append(layoutMembers(nil), tarFile(layoutIndex, strings.Repeat(" ", maxManifestSize+1))), err: "more than 4194304"},
		{name: "no version", members: append(layoutMembers(indexOf(one.entry()), one), tarFile(layoutFile, "{}")), err: "version"},
		{name: "no layout", members: []tarMember{tarFile("x", "")}, err: "not an OCI image layout", hinted: true},
		{name: "no index", members: []tarMember{tarFile(layoutFile, layoutContent)}, err: "reading index.json"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			for _, ref := range []Ref{
				{Transport: OCI, Path: writeTree(t, tc.members...), Name: tc.sel},
				{Transport: OCIArchive, Path: save(t, tarOf(tc.members...)), Name: tc.sel},
			} {
				img, err := openImage(t, ref, tc.platform, Options{})
				if tc.err != "" {
					wantError(t, err, tc.err, tc.hinted)
					continue
				}
				if err != nil {
					t.Fatal(err)
				}
				wantImage(t, img, tc.want)
			}
		})
	}
}

func TestLayoutPath(t *testing.T) {
	path := save(t, nil)
	_, err := openImage(t, Ref{Transport: OCI, Path: path}, "", Options{})
	wantError(t, err, "not a directory", true)
	_, err = openImage(t, Ref{Transport: OCIArchive, Path: filepath.Dir(path)}, "", Options{})
	wantError(t, err, "is a directory", true)
	_, err = openImage(t, Ref{Transport: OCI, Path: path + ".none"}, "", Options{})
	if !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("error %v, want one about an absent directory", err)
	}
}

// TestLayoutPipe has a named pipe where a blob should be; opening it must not
// wait for a writer.
func TestLayoutPipe(t *testing.T) {
	f := newFixture("linux/amd64", asTar, "a")
	dir := writeTree(t, layoutMembers(indexOf(f.entry()), f)...)
	blob := filepath.Join(dir, blobName(digestOf(f.config)))
	if err := os.Remove(blob); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(blob, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := openImage(t, Ref{Transport: OCI, Path: dir}, "", Options{})
	wantError(t, err, "not a regular file", false)
}

func TestLayoutWrite(t *testing.T) {
	f := newFixture("linux/amd64", asGzip, "a", "b", "a")
	for _, target := range []Ref{
		{Transport: OCI, Path: filepath.Join(t.TempDir(), "new"), Name: "1"},
		{Transport: OCI, Path: t.TempDir()},
		{Transport: OCIArchive, Path: filepath.Join(t.TempDir(), "new.tar"), Name: "1"},
		{Transport: OCIArchive, Path: filepath.Join(t.TempDir(), "new.tar")},
	} {
		line, err := Write(t.Context(), target, f.image(t), Options{})
		if err != nil {
			t.Fatal(err)
		}
		if line != digestOf(f.manifest).String() {
			t.Errorf("%s: line %q", target, line)
		}
		img, err := openImage(t, target, "", Options{})
		if err != nil {
			t.Fatal(err)
		}
		wantImage(t, img, f)
		if left, err := filepath.Glob(filepath.Join(filepath.Dir(target.Path), ".slim-*")); err != nil || len(left) > 0 {
			t.Errorf("%s: left behind %q, %v", target, left, err)
		}
	}
}

func TestOCIArchiveStream(t *testing.T) {
	f := newFixture("linux/amd64", asGzip, "a", "b")
	path := filepath.Join(t.TempDir(), "out.tar")
	if _, err := Write(t.Context(), Ref{Transport: OCIArchive, Path: path}, f.image(t), Options{}); err != nil {
		t.Fatal(err)
	}
	var stream bytes.Buffer
	if _, err := Write(t.Context(), Ref{Transport: OCIArchive, Path: "-"}, f.image(t), Options{Stdout: &stream}); err != nil {
		t.Fatal(err)
	}
	if file, err := os.ReadFile(path); err != nil || !bytes.Equal(file, stream.Bytes()) {
		t.Errorf("the stream has other bytes than the file (%v)", err)
	}
}

// TestLayoutGains writes into a layout of another tool: entries of other names
// stay byte for byte.
func TestLayoutGains(t *testing.T) {
	dir := t.TempDir()
	index, err := random.Index(500, 1, 2)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := layout.Write(dir, index); err != nil {
		t.Fatal(err)
	}
	before := entries(t, dir)
	one, two := newFixture("linux/amd64", asGzip, "a"), newFixture("linux/amd64", asGzip, "b")
	for _, step := range []struct {
		f    fixture
		name string
		more int
	}{{one, "1", 1}, {two, "2", 2}, {two, "1", 2}, {one, "1", 2}} {
		target := Ref{Transport: OCI, Path: dir, Name: step.name}
		if _, err := Write(t.Context(), target, step.f.image(t), Options{}); err != nil {
			t.Fatal(err)
		}
		after := entries(t, dir)
		if len(after) != len(before)+step.more {
			t.Fatalf("%d entries after writing %q, want %d", len(after), step.name, len(before)+step.more)
		}
		for i := range before {
			if !bytes.Equal(before[i], after[i]) {
				t.Errorf("entry %d became %s", i, after[i])
			}
		}
		img, err := openImage(t, target, "", Options{})
		if err != nil {
			t.Fatal(err)
		}
		wantImage(t, img, step.f)
	}
}

func TestReplaceEntry(t *testing.T) {
	f := newFixture("linux/amd64", asTar, "a")
	other := f.entry(refNameJSON("other"), `"x-unknown":{"a" : 12345678901234567890}`)
	for _, tc := range []struct{ name, target, index, want string }{
		{"appended", "1", string(indexOf(other)), string(indexOf(other, "NEW"))},
		{"first", "1", string(indexOf()), string(indexOf("NEW"))},
		{"null", "1", `{"schemaVersion":2,"manifests":null}`, `{"schemaVersion":2,"manifests":[NEW]}`},
		{"in place", "1", string(indexOf(f.entry(refNameJSON("1")), other)), string(indexOf("NEW", other))},
		{"twice", "1", string(indexOf(f.entry(refNameJSON("1")), other, f.entry(refNameJSON("1")))), string(indexOf("NEW", other))},
		{"nameless", "", string(indexOf(other, f.entry())), string(indexOf(other, "NEW"))},
		{"several nameless", "", string(indexOf(f.entry(), f.entry())), string(indexOf(f.entry(), f.entry(), "NEW"))},
		{"nameless attestation", "", string(indexOf(f.entry(platformJSON("unknown/unknown")))), string(indexOf(f.entry(platformJSON("unknown/unknown")), "NEW"))},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := replaceEntry([]byte(tc.index), []byte(`{"new":1}`), tc.target)
			squeeze := func(s string) string { return strings.NewReplacer(" ", "", `{"new":1}`, "NEW").Replace(s) }
			if err != nil || squeeze(string(got)) != squeeze(tc.want) {
				t.Errorf("got %v\n%s\nwant\n%s", err, got, tc.want)
			}
		})
	}
}

func TestLayoutRefused(t *testing.T) {
	f := newFixture("linux/amd64", asTar, "a")
	dir := writeTree(t, tarFile("precious", "data"))
	_, err := Write(t.Context(), Ref{Transport: OCI, Path: dir}, f.image(t), Options{})
	wantError(t, err, "not empty and no OCI image layout", true)
	if got := listing(t, dir); !slices.Equal(got, []string{".", "precious 4"}) {
		t.Errorf("the directory holds %q", got)
	}
	broken := writeTree(t, tarFile(layoutFile, layoutContent), tarFile(layoutIndex, "{"))
	_, err = Write(t.Context(), Ref{Transport: OCI, Path: broken}, f.image(t), Options{})
	wantError(t, err, "editing index.json", false)
	for _, transport := range []Transport{OCI, OCIArchive} {
		_, err = Write(t.Context(), Ref{Transport: transport, Path: filepath.Join(t.TempDir(), "x"), Name: "@" + digestOf(nil).String()}, f.image(t), Options{})
		wantError(t, err, "names a digest", true)
	}
}

// TestWrongDigest writes an image whose source gives other bytes than its
// manifest says: a new target does not come to be, an old one stays.
func TestWrongDigest(t *testing.T) {
	f := newFixture("linux/amd64", asGzip, "a", "b")
	for _, tc := range []struct{ name, err, blob string }{
		{"other content", "has other content", strings.Repeat("x", len(f.blobs[1]))},
		{"too long", "is longer than", string(f.blobs[1]) + "x"},
		{"too short", "ends after", string(f.blobs[1][1:])},
	} {
		for _, transport := range []Transport{OCI, OCIArchive, DockerArchive} {
			t.Run(tc.name+" to "+string(transport), func(t *testing.T) {
				img := f.image(t)
				img.Layers[1].Open = opens([]byte(tc.blob))
				dir := t.TempDir()
				target := Ref{Transport: transport, Path: filepath.Join(dir, "target")}
				_, err := Write(t.Context(), target, img, Options{})
				wantError(t, err, tc.err, false)
				if left := listing(t, dir); len(left) != 1 {
					t.Errorf("left behind: %q", left)
				}
				old := newFixture("linux/amd64", asGzip, "a", "old")
				if _, err := Write(t.Context(), target, old.image(t), Options{}); err != nil {
					t.Fatal(err)
				}
				before := listing(t, dir)
				_, err = Write(t.Context(), target, img, Options{})
				wantError(t, err, tc.err, false)
				if after := listing(t, dir); !slices.Equal(before, after) {
					t.Errorf("the target became\n%q\nfrom\n%q", after, before)
				}
			})
		}
	}
}

// TestLayoutBlobs reads no layer that the layout has, and replaces one whose
// file has other content.
func TestLayoutBlobs(t *testing.T) {
	f := newFixture("linux/amd64", asGzip, "a", "b")
	dir := t.TempDir()
	if _, err := Write(t.Context(), Ref{Transport: OCI, Path: dir, Name: "1"}, f.image(t), Options{}); err != nil {
		t.Fatal(err)
	}
	img := f.image(t)
	img.Layers[0].Open = never(t)
	bad := filepath.Join(dir, blobName(img.Layers[1].Digest))
	if err := os.WriteFile(bad, bytes.Repeat([]byte{0}, len(f.blobs[1])), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Write(t.Context(), Ref{Transport: OCI, Path: dir, Name: "2"}, img, Options{}); err != nil {
		t.Fatal(err)
	}
	got, err := openImage(t, Ref{Transport: OCI, Path: dir, Name: "2"}, "", Options{})
	if err != nil {
		t.Fatal(err)
	}
	wantImage(t, got, f)
}

func TestLayoutForeign(t *testing.T) {
	f := newFixture("linux/amd64", asGzip, "a", "b")
	img := f.image(t)
	img.Layers[0].Foreign, img.Layers[0].Open = true, never(t)
	dir := t.TempDir()
	if _, err := Write(t.Context(), Ref{Transport: OCI, Path: dir}, img, Options{}); err != nil {
		t.Fatal(err)
	}
	if (layoutStore{dirFiles(dir)}).has(img.Layers[0].Digest) {
		t.Error("the blob of a foreign layer was written")
	}
}

// TestLayoutConcurrent has several writers to one new layout, one of which
// fails.
func TestLayoutConcurrent(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "layout")
	bad := newFixture("linux/amd64", asGzip, "shared", "bad")
	bad.blobs[1] = nil
	var wg sync.WaitGroup
	const writers = 8
	for i := range writers {
		f := newFixture("linux/amd64", asGzip, "shared", fmt.Sprint(i))
		img, failing := f.image(t), bad.image(t)
		wg.Go(func() {
			target := Ref{Transport: OCI, Path: dir, Name: fmt.Sprint(i)}
			if _, err := Write(t.Context(), target, img, Options{}); err != nil {
				t.Error(err)
			}
			if _, err := Write(t.Context(), Ref{Transport: OCI, Path: dir, Name: "bad"}, failing, Options{}); err == nil {
				t.Error("an empty layer was written")
			}
		})
	}
	wg.Wait()
	if got := len(entries(t, dir)); got != writers {
		t.Errorf("%d entries, want %d", got, writers)
	}
	for i := range writers {
		img, err := openImage(t, Ref{Transport: OCI, Path: dir, Name: fmt.Sprint(i)}, "", Options{})
		if err != nil {
			t.Fatal(err)
		}
		wantImage(t, img, newFixture("linux/amd64", asGzip, "shared", fmt.Sprint(i)))
	}
	if _, err := os.Stat(filepath.Join(dir, blobName(digestOf(bad.manifest)))); err == nil {
		t.Error("the failed writers left a manifest behind")
	}
}

func TestLockWait(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	held, err := lockFile(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if _, err := lockFile(ctx, path); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error %v while another holds the lock", err)
	}
}

// TestLeftovers wants files of killed runs removed, those of live runs and of
// others kept.
func TestLeftovers(t *testing.T) {
	f := newFixture("linux/amd64", asTar, "a")
	for _, target := range []Ref{{Transport: DockerArchive, Path: "out.tar"}, {Transport: OCI, Path: "."}} {
		t.Run(string(target.Transport), func(t *testing.T) {
			dir := t.TempDir()
			if target.Transport == OCI {
				if _, err := Write(t.Context(), Ref{Transport: OCI, Path: dir}, f.image(t), Options{}); err != nil {
					t.Fatal(err)
				}
			}
			live, err := createTemp(dir)
			if err != nil {
				t.Fatal(err)
			}
			defer live.discard()
			killed := filepath.Join(dir, ".slim-KILLED.tmp")
			foreign := filepath.Join(dir, ".slim-notes.txt")
			for _, path := range []string{killed, foreign} {
				if err := os.WriteFile(path, []byte("x"), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			target.Path = filepath.Join(dir, target.Path)
			if _, err := Write(t.Context(), target, f.image(t), Options{}); err != nil {
				t.Fatal(err)
			}
			if _, err := os.Stat(killed); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("the killed run's file is there: %v", err)
			}
			for _, path := range []string{live.Name(), foreign} {
				if _, err := os.Stat(path); err != nil {
					t.Errorf("%s was removed: %v", path, err)
				}
			}
		})
	}
}

func TestReadDocument(t *testing.T) {
	data := []byte("document")
	for _, tc := range []struct {
		name, err   string
		size, limit int64
	}{
		{"right size", "", 8, 8},
		{"unknown size", "", -1, 8},
		{"too long for its size", "longer than", 7, 8},
		{"too short for its size", "ends after", 9, 10},
		{"claims too much", "are more than", 9, 8},
		{"is too much", "more than 7", -1, 7},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := readDocument(io.NopCloser(bytes.NewReader(data)), digestOf(data), tc.size, tc.limit)
			if tc.err != "" {
				wantError(t, err, tc.err, false)
			} else if err != nil || !bytes.Equal(got, data) {
				t.Errorf("read %q, %v", got, err)
			}
		})
	}
}
