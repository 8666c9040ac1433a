package main

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/v1/types"
)

const (
	baseLayers = "etc/ etc/os=1 usr/ usr/lib/ usr/lib/x=X"
	appLayers  = baseLayers + " | etc/a=1 | ✗etc/a etc/b=2"
	squashed   = "etc/ etc/b=2 etc/os=1 usr/ usr/lib/ usr/lib/x=X"
	aboveBase  = "etc/ etc/b=2"
)

// baseDescriptor is a member that a kept descriptor must keep.
var baseDescriptor = map[int]string{0: `"annotations":{"z":"1","a":"é"}`}

func TestSquashInRegistry(t *testing.T) {
	for _, c := range []struct {
		name  string
		flags []string
		want  []string
		kept  int
	}{
		{"whole", nil, []string{squashed}, 0},
		{"base", []string{"--base", "HUB/base:1"}, []string{baseLayers, aboveBase}, 1},
		{"base by digest", []string{"--base", "HUB/base@DIGEST"}, []string{baseLayers, aboveBase}, 1},
		{"base-layers 0", []string{"--base-layers", "0"}, []string{squashed}, 0},
		{"base-layers 1", []string{"--base-layers", "1"}, []string{baseLayers, aboveBase}, 1},
		{"base-layers 2", []string{"--base-layers=2"}, []string{baseLayers, "etc/a=1", "etc/ ✗etc/a etc/b=2"}, 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, h := newSandbox(t), newHub(t)
			base := recipe{layers: baseLayers}.build()
			app := recipe{layers: appLayers, descriptors: baseDescriptor}.build()
			h.push(base, "base", "1")
			source := h.push(app, "app", "1")
			args := []string{"squash"}
			for _, f := range c.flags {
				f = strings.ReplaceAll(f, "HUB", h.host)
				args = append(args, strings.ReplaceAll(f, "DIGEST", sha256Of(base.manifest)))
			}
			o := s.done(append(args, source, h.ref("app:slim"))...)
			got := h.pull("app", "slim")
			if want := h.ref("app@") + got.digest() + "\n"; o.out != want {
				t.Errorf("standard output %q, want %q", o.out, want)
			}
			got.wantLayers(t, c.want...)
			for i := range c.kept {
				if string(got.layers[i]) != app.descriptors[i] {
					t.Errorf("descriptor of kept layer %d\n%s\nwant\n%s", i+1, got.layers[i], app.descriptors[i])
				}
			}
			if !strings.Contains(string(got.manifest), `"x-unknown":{"n":12345678901234567890}`) {
				t.Errorf("the manifest lost an unknown member:\n%s", got.manifest)
			}
		})
	}
}

func TestSquashUploadsNoKeptLayer(t *testing.T) {
	s, h := newSandbox(t), newHub(t)
	source := h.push(recipe{layers: appLayers}.build(), "app", "1")
	h.asked("")
	s.done("squash", "--base-layers", "1", source, h.ref("app:slim"))
	if n := h.asked("PUT /v2/app/blobs/"); n != 2 {
		t.Errorf("%d blobs were uploaded, want the config and one layer", n)
	}
}

func TestBaseAnnotations(t *testing.T) {
	s, h := newSandbox(t), newHub(t)
	base := recipe{layers: baseLayers}.build()
	h.push(base, "base", "1")
	source := h.push(recipe{layers: appLayers}.build(), "app", "1")
	s.done("squash", "--base", h.ref("base:1"), source, h.ref("app:based"))
	s.done("squash", h.ref("app:based"), h.ref("app:whole"))
	based, whole := string(h.pull("app", "based").manifest), string(h.pull("app", "whole").manifest)
	for _, text := range []string{`"org.opencontainers.image.base.name":"` + h.ref("base:1") + `"`, `"org.opencontainers.image.base.digest":"` + sha256Of(base.manifest) + `"`} {
		if !strings.Contains(based, text) {
			t.Errorf("the manifest above the base lacks %s:\n%s", text, based)
		}
	}
	if strings.Contains(whole, "image.base.") {
		t.Errorf("the whole squash kept the annotations of the base:\n%s", whole)
	}
}

func TestBaseIsTheImage(t *testing.T) {
	s, h := newSandbox(t), newHub(t)
	app := recipe{layers: appLayers}.build()
	source := h.push(app, "app", "1")
	for _, flags := range [][]string{{"--base", source}, {"--base-layers", "3"}, {"--base", source, "--max-layer-size", "1M"}, {"--base-layers", "3", "--max-layer-size", "1M"}} {
		o := s.done(append(append([]string{"squash"}, flags...), source, h.ref("app:same"))...)
		s.wantTexts(o, "nothing to do, copied")
		if got := h.pull("app", "same"); string(got.manifest) != string(app.manifest) {
			t.Errorf("%s: the copy is another image:\n%s", flags, got.manifest)
		}
	}
}

func TestBaseRefused(t *testing.T) {
	s, h := newSandbox(t), newHub(t)
	app := recipe{layers: appLayers}.build()
	source := h.push(app, "app", "1")
	other := recipe{layers: "etc/ etc/os=2"}.build()
	h.push(other, "other", "1")
	h.push(recipe{layers: appLayers + " | d=1"}.build(), "longer", "1")
	target := h.ref("app:slim")
	for _, c := range []struct {
		name  string
		code  int
		flags []string
		texts []string
	}{
		{"not a prefix", exitFailed, []string{"--base", h.ref("other:1")}, []string{
			"not built on this base", "layer 1 is " + sha256Of(app.plain[0]), "in the base " + sha256Of(other.plain[0]),
			"slim: hint: the base may have moved", "--base-layers",
		}},
		{"longer", exitFailed, []string{"--base", h.ref("longer:1")}, []string{"it has 3 layers, the base 4", "slim: hint: "}},
		{"absent", exitFailed, []string{"--base", h.ref("none:1")}, []string{"opening the base " + h.ref("none:1")}},
		{"too many", exitUsage, []string{"--base-layers", "4"}, []string{"--base-layers: 4 base layers asked for, the image has 3"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s.t = t
			s.fails(c.code, c.texts, append(append([]string{"squash"}, c.flags...), source, target)...)
			h.wantNone("app", "slim")
		})
	}
}

func TestBaseJunk(t *testing.T) {
	const base = "var/ var/cache/ var/cache/apk/ var/cache/apk/x=XX etc/ etc/a=1"
	for _, c := range []struct {
		name, junk, layers string
		want               []string
	}{
		{"keep", "keep", base + " | etc/b=2 | etc/c=3", []string{base, "etc/ etc/b=2 etc/c=3"}},
		{"hide", "hide", base + " | etc/b=2 | etc/c=3", []string{base, "etc/ etc/b=2 etc/c=3 var/ var/cache/ var/cache/apk/ ✗var/cache/apk/x"}},
		{"hide, nothing above", "hide", base, []string{base, "var/ var/cache/ var/cache/apk/ ✗var/cache/apk/x"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, h := newSandbox(t), newHub(t)
			source := h.push(recipe{layers: c.layers}.build(), "app", "1")
			s.done("squash", "--base-junk", c.junk, "--base-layers", "1", source, h.ref("app:slim"))
			h.pull("app", "slim").wantLayers(t, c.want...)
		})
	}
}

func TestEverythingAboveBaseRemoved(t *testing.T) {
	s, h := newSandbox(t), newHub(t)
	source := h.push(recipe{layers: baseLayers + " | tmp.log=1 | tmp.log=2"}.build(), "app", "1")
	s.done("squash", "--base-layers", "1", "--remove-path", "tmp.log", source, h.ref("app:slim"))
	h.pull("app", "slim").wantLayers(t, baseLayers)
	s.done("squash", "--remove-path", "**", source, h.ref("app:none"))
	if got := h.pull("app", "none"); len(got.blobs) != 1 {
		t.Errorf("%d layers after everything was removed, want one", len(got.blobs))
	}
}

func TestRules(t *testing.T) {
	const layers = "etc/ etc/a=1 var/ var/cache/ var/cache/apk/ var/cache/apk/x=X usr/ usr/share/ usr/share/man/ usr/share/man/m=M | etc/b=2"
	for _, c := range []struct {
		name  string
		flags []string
		gone  []string
	}{
		{"default", nil, []string{"var/cache/apk/x=X", "usr/share/man/m=M"}},
		{"none", []string{"--remove", "none"}, nil},
		{"one", []string{"--remove", "apk"}, []string{"var/cache/apk/x=X"}},
		{"less", []string{"--remove=-docs"}, []string{"var/cache/apk/x=X"}},
		{"path", []string{"--remove", "none", "--remove-path", "etc/*"}, []string{"etc/a=1", "etc/b=2"}},
		{"kept", []string{"--remove-path", "etc/*", "--keep-path", "etc/b", "--keep-path", "usr"}, []string{"var/cache/apk/x=X", "etc/a=1"}},
		{"file", []string{"--remove", "none", "--rules", "rules"}, []string{"etc/a=1"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSandbox(t)
			s.write("rules", []byte("# comment\netc/*\n!etc/b\n"))
			recipe{layers: layers}.build().layout("1").save(s, "app")
			s.done(append(append([]string{"squash"}, c.flags...), "oci:app:1", "oci:slim:1")...)
			got := strings.Fields(s.layoutImage("slim", "1").listings(t)[0])
			for _, entry := range strings.Fields(strings.ReplaceAll(layers, "|", " ")) {
				want := "stays"
				for _, g := range c.gone {
					if g == entry {
						want = "goes"
					}
				}
				is := "goes"
				for _, g := range got {
					if g == entry {
						is = "stays"
					}
				}
				if is != want {
					t.Errorf("%s %s, want that it %s", entry, is, want)
				}
			}
		})
	}
}

func TestFamilyAndCompressionAreKept(t *testing.T) {
	for _, c := range []struct {
		name        string
		family      types.MediaType
		compression string
		flags       []string
		want        types.MediaType
	}{
		{"OCI gzip", types.OCIManifestSchema1, "gzip", nil, types.OCILayer},
		{"OCI zstd", types.OCIManifestSchema1, "zstd", nil, types.OCILayerZStd},
		{"OCI mixed", types.OCIManifestSchema1, "zstd,gzip,zstd", nil, types.OCILayer},
		{"OCI plain", types.OCIManifestSchema1, "none", nil, types.OCILayer},
		{"OCI zstd above gzip base", types.OCIManifestSchema1, "gzip,zstd,zstd", []string{"--base-layers", "1"}, types.OCILayerZStd},
		{"OCI to zstd", types.OCIManifestSchema1, "gzip", []string{"--compression", "zstd", "--compression-level", "9"}, types.OCILayerZStd},
		{"OCI to none", types.OCIManifestSchema1, "gzip", []string{"--compression=none"}, types.OCIUncompressedLayer},
		{"Docker gzip", types.DockerManifestSchema2, "gzip", nil, types.DockerLayer},
		{"Docker to none", types.DockerManifestSchema2, "gzip", []string{"--compression", "none"}, types.DockerUncompressedLayer},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, h := newSandbox(t), newHub(t)
			source := h.push(recipe{layers: appLayers, family: c.family, compression: c.compression}.build(), "app", "1")
			s.done(append(append([]string{"squash"}, c.flags...), source, h.ref("app:slim"))...)
			got := h.pull("app", "slim")
			if got.mediaType != string(c.family) {
				t.Errorf("manifest of type %q, want %q", got.mediaType, c.family)
			}
			if ts := got.layerTypes(t); ts[len(ts)-1] != string(c.want) {
				t.Errorf("layers of type %q, want %q", ts, c.want)
			}
			docker := c.family == types.DockerManifestSchema2
			if strings.Contains(string(got.manifest), "vnd.docker") != docker || strings.Contains(string(got.manifest), "vnd.oci") == docker {
				t.Errorf("families are mixed:\n%s", got.manifest)
			}
		})
	}
}

func TestDockerFamilyHasNoZstd(t *testing.T) {
	s, h := newSandbox(t), newHub(t)
	source := h.push(recipe{layers: appLayers, family: types.DockerManifestSchema2}.build(), "app", "1")
	s.fails(exitFailed, []string{"a Docker manifest cannot hold a layer of media type", "slim: hint: ", "--compression gzip"},
		"squash", "--compression", "zstd", source, h.ref("app:slim"))
	h.wantNone("app", "slim")
}

// TestMaxLayerSize splits what is squashed; applied in order the layers give the
// same image, and a run on the result changes nothing.
func TestMaxLayerSize(t *testing.T) {
	var files []string
	text := strings.Repeat("0123456789abcdef", 100_000/16)
	for i := range 40 {
		files = append(files, fmt.Sprintf("d%d/ d%d/f%02d=%d%s", i%4, i%4, i, i, text))
	}
	files = append(files, "l1⇒d0/f00", "big="+strings.Repeat(text, 15))
	f := recipe{layers: baseLayers + " | " + strings.Join(files, " ") + " | ✗d1/f01 ✗etc/os"}.build()
	for _, flags := range [][]string{nil, {"--base-layers", "1"}} {
		s, h := newSandbox(t), newHub(t)
		source := h.push(f, "app", "1")
		args := append([]string{"squash", "--verify", "--max-layer-size", "1M"}, flags...)
		o := s.done(append(args, source, h.ref("out:split"))...)
		s.wantTexts(o, `warning: "big": takes a layer of `)
		got := h.pull("out", "split")
		layers := got.listings(t)[len(flags)/2:]
		if len(layers) < 5 {
			t.Fatalf("%d layers", len(layers))
		}
		for i, b := range got.blobs[len(flags)/2:] {
			if n := len(inflated(t, b)); n > 1_000_000 && !strings.Contains(layers[i], "big=") {
				t.Errorf("layer %d has %d bytes", i, n)
			}
		}
		s.done("diff", source, h.ref("out:split"))
		again := s.done(append(args, h.ref("out:split"), h.ref("out:again"))...)
		if again.out != o.out {
			t.Errorf("%q, then %q", o.out, again.out)
		}
		s.wantTexts(again, "nothing to do, copied")
		recognised := s.done(append([]string{"squash", "--max-layer-size", "1M"}, append(slices.Clone(flags), source, h.ref("out:split"))...)...)
		s.wantTexts(recognised, "already squashed")
	}
	s := newSandbox(t)
	recipe{layers: baseLayers + " | x=" + text}.build().layout("1").save(s, "in")
	s.done("squash", "--max-layer-size", "1Gi", "oci:in:1", "oci:one:1")
	s.done("squash", "oci:in:1", "oci:two:1")
	if one, two := s.layoutImage("one", "1"), s.layoutImage("two", "1"); string(one.layers[0]) != string(two.layers[0]) {
		t.Error("a limit that is not reached changes the layer")
	}
}

// TestMaxLayerSizeAboveManyLayers splits only into as many layers as an image may still
// have.
func TestMaxLayerSizeAboveManyLayers(t *testing.T) {
	var kept []string
	for i := range 119 {
		kept = append(kept, fmt.Sprintf("l%d=%d", i, i))
	}
	layers := strings.Join(kept, " | ") + " | a=" + strings.Repeat("a", 1_500_000) + " | b=" + strings.Repeat("b", 900_000) + " | c=" + strings.Repeat("c", 900_000)
	s, h := newSandbox(t), newHub(t)
	source := h.push(recipe{layers: layers}.build(), "app", "1")
	run := func(kept, size, source, target string) []string {
		return []string{"squash", "--base-layers", kept, "--max-layer-size", size, source, h.ref(target)}
	}
	s.fails(exitFailed, []string{"--max-layer-size 1MB would make 3 layers, more than 1", "slim: hint: --max-layer-size 4Mi is enough"}, run("119", "1M", source, "out:no")...)
	s.fails(exitFailed, []string{"--max-layer-size 2MB would make 2 layers, more than 1"}, run("119", "2M", source, "out:no")...)
	h.wantNone("out", "no")
	s.done(run("119", "4Mi", source, "out:one")...)
	if n := len(h.pull("out", "one").blobs); n != 120 {
		t.Errorf("%d layers, want 120", n)
	}
	s.done(append(run("117", "2M", source, "out:two"), "--verify")...)
	if n := len(h.pull("out", "two").blobs); n != 119 {
		t.Errorf("%d layers, want 119", n)
	}
	s.wantTexts(s.done(run("117", "2M", source, "out:two")...), "already squashed")
	s.wantTexts(s.done(run("117", "2M", h.ref("out:two"), "out:copy")...), "nothing to do, copied")
}
