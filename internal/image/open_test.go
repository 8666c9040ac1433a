package image

import (
	"bytes"
	"io"
	"slices"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

func TestPlatform(t *testing.T) {
	amd, arm := newFixture("linux/amd64", asGzip, "amd"), newFixture("linux/arm64/v8", asGzip, "arm")
	v6, v7 := newFixture("linux/arm/v6", asGzip, "v6"), newFixture("linux/arm/v7", asGzip, "v7")
	windows := newFixture("windows/amd64", asGzip, "windows")
	again := newFixture("linux/amd64", asGzip, "again")
	attestation := newFixture("unknown/unknown", asGzip, "attestation")
	of := func(f fixture) string { return f.entry(platformJSON(f.platform)) }
	all := []fixture{amd, arm, v6, v7, windows, again, attestation}
	nested := fixture{manifest: indexOf(of(arm)), mediaType: types.OCIImageIndex}
	nestedTwice := fixture{manifest: indexOf(of(arm), nested.entry()), mediaType: types.OCIImageIndex}

	for _, tc := range []struct {
		name     string
		entries  []string
		platform string
		want     fixture
		notes    []string
		err      string
		hinted   bool
	}{
		{name: "only image", entries: []string{of(amd)}, want: amd},
		{name: "attestation beside it", entries: []string{of(amd), of(attestation)}, want: amd, notes: []string{"1 attestation"}},
		{name: "windows beside it", entries: []string{of(windows), of(amd)}, want: amd, notes: []string{`"windows/amd64" was left out`}},
		{name: "artifact beside it", entries: []string{of(amd), amd.entry(`"artifactType":"text/x"`), arm.entry(`"artifactType":"text/x"`)}, want: amd, notes: []string{`type "text/x"`}},
		{name: "unknown type beside it", entries: []string{`{"mediaType":"text/x","digest":"` + digestOf(nil).String() + `","size":0}`, of(amd)}, want: amd, notes: []string{`type "text/x"`}},
		{name: "absent platform", entries: []string{newFixture("linux/s390x", asTar, "x").entry(platformJSON("linux/s390x")), of(amd)}, want: amd, notes: []string{`"linux/s390x", whose manifest`}},
		{name: "the same twice", entries: []string{of(amd), of(amd)}, want: amd},
		{name: "two of one platform", entries: []string{of(amd), of(again)}, want: amd, notes: []string{`a further image for "linux/amd64"`}},
		{name: "several", entries: []string{of(amd), of(arm)}, err: "several platforms: linux/amd64, linux/arm64/v8", hinted: true},
		{name: "selected", entries: []string{of(amd), of(arm)}, platform: "linux/amd64", want: amd},
		{name: "arm64 is v8", entries: []string{of(amd), of(arm)}, platform: "linux/arm64", want: arm},
		{name: "v8 is arm64", entries: []string{of(amd), arm.entry(platformJSON("linux/arm64"))}, platform: "linux/arm64/v8", want: arm},
		{name: "arm is v7", entries: []string{of(v6), of(v7)}, platform: "linux/arm", want: v7},
		{name: "arm with v6 alone", entries: []string{of(v6), of(amd)}, platform: "linux/arm", want: v6},
		{name: "v7 is not v6", entries: []string{of(v6)}, platform: "linux/arm/v7", err: `no image for "linux/arm/v7"`, hinted: true},
		{name: "none of it", entries: []string{of(amd), of(arm)}, platform: "linux/s390x", err: `no image for "linux/s390x"`, hinted: true},
		{name: "absent one selected", entries: []string{newFixture("linux/s390x", asTar, "x").entry(platformJSON("linux/s390x")), of(amd)}, platform: "linux/s390x", err: "whose manifest", hinted: true},
		{name: "windows alone", entries: []string{of(windows)}, err: "windows are not supported", hinted: true},
		{name: "windows selected", entries: []string{of(windows), of(amd)}, platform: "windows/amd64", err: "windows are not supported", hinted: true},
		{name: "no platform in the index", entries: []string{amd.entry(), arm.entry()}, platform: "linux/arm64", want: arm},
		{name: "wrong platform in the index", entries: []string{amd.entry(platformJSON("linux/arm64")), of(v6)}, platform: "linux/arm64", want: amd, notes: []string{"the index says"}},
		{name: "nested index", entries: []string{of(amd), nested.entry()}, platform: "linux/arm64", want: arm},
		{name: "index in an index in an index", entries: []string{nestedTwice.entry(), of(amd)}, platform: "linux/arm64", want: arm},
		{name: "no platform", entries: []string{of(amd)}, platform: "linux", err: `"linux" is no platform`, hinted: true},
		{name: "too many slashes", entries: []string{of(amd)}, platform: "a/b/c/d", err: "is no platform", hinted: true},
		{name: "attestation and windows", entries: []string{of(attestation), of(windows)}, err: "windows are not supported", hinted: true},
		{name: "attestations alone", entries: []string{of(attestation)}, err: "holds no image", hinted: true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			// One level below index.json, as docker and skopeo write it.
			list := fixture{manifest: indexOf(tc.entries...), mediaType: types.OCIImageIndex}
			members := layoutMembers(indexOf(list.entry()), all...)
			for _, f := range []fixture{list, nested, nestedTwice} {
				members = append(members, tarFile(blobName(digestOf(f.manifest)), string(f.manifest)))
			}
			img, err := openImage(t, Ref{Transport: OCI, Path: writeTree(t, members...)}, tc.platform, Options{})
			if tc.err != "" {
				wantError(t, err, tc.err, tc.hinted)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			wantImage(t, img, tc.want)
			if !slices.EqualFunc(img.Notes, tc.notes, strings.Contains) {
				t.Errorf("notes %q, want %q", img.Notes, tc.notes)
			}
		})
	}
}

// TestIndexBounds wants indexes refused that nest too deep or name too much.
func TestIndexBounds(t *testing.T) {
	deep := fixture{manifest: indexOf(), mediaType: types.OCIImageIndex}
	members := []tarMember{}
	for range maxIndexDepth + 1 {
		deep = fixture{manifest: indexOf(deep.entry()), mediaType: types.OCIImageIndex}
		members = append(members, tarFile(blobName(digestOf(deep.manifest)), string(deep.manifest)))
	}
	_, err := openImage(t, Ref{Transport: OCI, Path: writeTree(t, append(members, layoutMembers(indexOf(deep.entry()))...)...)}, "", Options{})
	wantError(t, err, "indexes within one another", false)

	var entries []string
	members = nil
	for i := range maxDocuments + 1 {
		f := newFixture("linux/amd64", asTar, strings.Repeat("x", i))
		entries = append(entries, f.entry())
		members = append(members, tarFile(blobName(digestOf(f.manifest)), string(f.manifest)), tarFile(blobName(digestOf(f.config)), string(f.config)), tarFile(blobName(digestOf(f.blobs[0])), string(f.blobs[0])))
	}
	_, err = openImage(t, Ref{Transport: OCIArchive, Path: save(t, tarOf(append(members, layoutMembers(indexOf(entries...))...)...))}, "", Options{})
	wantError(t, err, "more than 512 manifests", false)
}

func TestUnusable(t *testing.T) {
	f := newFixture("linux/amd64", asTar, "a")
	unknown := Ref{Transport: "dir", Path: t.TempDir()}
	if _, err := Open(t.Context(), unknown, Options{}); err == nil {
		t.Error("an unknown transport was opened")
	}
	if _, err := Write(t.Context(), unknown, f.image(t), Options{}); err == nil {
		t.Error("an unknown transport was written")
	}
	stdio := Ref{Transport: Stdio, Path: "-"}
	if _, err := Open(t.Context(), stdio, Options{}); err == nil {
		t.Error("no standard input was read")
	}
	if _, err := Write(t.Context(), stdio, f.image(t), Options{}); err == nil {
		t.Error("no standard output was written")
	}
	img := f.image(t)
	img.Layers[0].Digest = digestOf(nil)
	_, err := Write(t.Context(), Ref{Transport: OCI, Path: t.TempDir()}, img, Options{})
	wantError(t, err, "[internal error]", false)
}

// FuzzOpen reads arbitrary bytes as an archive. What opens as an image has
// layers that can be read or fail in reading; nothing panics.
func FuzzOpen(f *testing.F) {
	img := newFixture("linux/amd64", asGzip, "a", "b")
	members, saved := img.saved("app:1")
	docker := tarOf(append(members, savedJSON(saved))...)
	oci := tarOf(layoutMembers(indexOf(img.entry()), img)...)
	for _, seed := range [][]byte{docker, oci, gzipped(docker), zstdCompressed(oci), nil} {
		f.Add(seed)
	}
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := Open(t.Context(), Ref{Transport: Stdio, Path: "-"}, Options{Stdin: bytes.NewReader(data), TempDir: dir})
		if err != nil {
			return
		}
		defer s.Close()
		img, err := s.Image(t.Context(), "")
		if err != nil {
			return
		}
		for _, l := range img.Layers {
			if l.Digest == (v1.Hash{}) {
				if l, err = identify(t.Context(), l); err != nil {
					continue
				}
			}
			if err := copyLayer(t.Context(), io.Discard, l); err != nil {
				t.Logf("reading a layer: %v", err)
			}
		}
	})
}
