package main

import (
	"crypto/sha512"
	"fmt"
	"strings"
	"testing"
)

func sha512Of(b []byte) string { return fmt.Sprintf("sha512:%x", sha512.Sum512(b)) }

// TestSHA512Layer reads a layer that its descriptor names by SHA-512.
func TestSHA512Layer(t *testing.T) {
	s := newSandbox(t)
	blob := recipe{layers: appLayers}.build().blobs[0]
	app := recipe{layers: appLayers, editManifest: func(m string) string {
		return strings.Replace(m, sha256Of(blob), sha512Of(blob), 1)
	}}.build()
	fs := app.layout("1")
	fs.add(blobName(sha512Of(blob)), blob)
	fs.save(s, "in")
	s.done("squash", "--verify", "oci:in:1", "oci:out:1")
	s.layoutImage("out", "1").wantLayers(t, squashed)
	s.done("diff", "oci:in:1", "oci:out:1")
	s.done("squash", "--verify", "--base-layers", "1", "oci:in:1", "oci:kept:1")
	if s.read("kept/"+blobName(sha512Of(blob))) != string(blob) {
		t.Error("the kept layer is not as it was")
	}

	s.write("in/"+blobName(sha512Of(blob)), app.blobs[1])
	s.fails(exitFailed, []string{"layer 1 (" + sha512Of(blob) + ")"}, "squash", "oci:in:1", "oci:no:1")
}

// TestSHA512Manifest has an index and the manifest in it named by SHA-512: they keep
// the kind of their digests, also where the image is copied as it is.
func TestSHA512Manifest(t *testing.T) {
	for _, layers := range []string{appLayers, goodLayer} {
		s, h := newSandbox(t), newHub(t)
		app := recipe{layers: layers}.build()
		index := indexOf(strings.Replace(app.platformEntry(), sha256Of(app.manifest), sha512Of(app.manifest), 1))
		fs := layoutOf(indexOf(strings.Replace(indexEntry(index, named("1")), sha256Of(index), sha512Of(index), 1)), app)
		fs.add(blobName(sha512Of(app.manifest)), app.manifest)
		fs.add(blobName(sha512Of(index)), index)
		fs.save(s, "in")
		want := ""
		for _, target := range []string{"oci:out:1", "oci-archive:out.tar:1", h.ref("out:1")} {
			o := s.done("squash", "--verify", "oci:in:1", target)
			line := strings.TrimPrefix(o.out, h.ref("out@"))
			if want == "" {
				want = line
			}
			if line != want || !strings.HasPrefix(line, "sha512:") {
				t.Errorf("%s: %q, want %q", target, line, want)
			}
			if again := s.done("squash", "oci:in:1", target); again.out != o.out {
				t.Errorf("%s: %q, then %q", target, o.out, again.out)
			}
		}
		if layers == goodLayer && want != sha512Of(index)+"\n" {
			t.Errorf("the index that does not change is %q, want %s", want, sha512Of(index))
		}
		for _, got := range []*stored{s.layoutImage("out", "1"), ofOCIArchive(t, []byte(s.read("out.tar")), "1")} {
			if layers == appLayers {
				got.wantLayers(t, squashed)
			} else {
				got.wantLayers(t, goodLayer)
			}
		}
	}
}
