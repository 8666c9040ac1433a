package main

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/v1/types"
)

const goodLayer = "etc/ etc/passwd=root"

// TestRefusedImages are images that are no images for a Linux engine, or that two
// readers would read in two ways.
func TestRefusedImages(t *testing.T) {
	replace := func(from, to string) func(string) string {
		return func(text string) string {
			if !strings.Contains(text, from) {
				panic(fmt.Sprintf("%q is not in %s", from, text))
			}
			return strings.Replace(text, from, to, 1)
		}
	}
	beside := func(member string) func(string) string {
		return func(text string) string { return strings.TrimSuffix(text, "}") + "," + member + "}" }
	}
	usual := recipe{layers: goodLayer + " | etc/motd=x"}
	with := func(change func(*recipe)) recipe {
		r := usual
		change(&r)
		return r
	}
	second := usual.build().descriptors[1]
	for _, c := range []struct {
		name   string
		image  recipe
		texts  []string
		hinted bool
	}{
		{"foreign by urls", with(func(r *recipe) { r.descriptors = map[int]string{1: `"urls":["https://example.com/x"]`} }),
			[]string{"layer 2 (LAYER2) is a foreign layer", "never fetched"}, true},
		{"foreign by type", with(func(r *recipe) {
			r.editManifest = replace(second, strings.Replace(second, string(types.OCILayer), string(types.OCIRestrictedLayer), 1))
		}), []string{"layer 2 (LAYER2) is a foreign layer"}, true},
		{"encrypted", with(func(r *recipe) {
			r.editManifest = replace(second, strings.Replace(second, "tar+gzip", "tar+gzip+encrypted", 1))
		}), []string{"layer 2 (LAYER2): the layer is encrypted"}, true},
		{"windows", with(func(r *recipe) { r.platform = "windows/amd64" }), []string{"images for windows are not supported"}, true},
		{"schema 1", with(func(r *recipe) {
			r.editManifest = func(string) string {
				return `{"schemaVersion":1,"name":"x","tag":"1","architecture":"amd64","fsLayers":[],"history":[]}`
			}
		}), []string{"obsolete schema 1"}, true},
		{"artifact by config", with(func(r *recipe) {
			r.editManifest = replace(string(types.OCIConfigJSON), "application/vnd.oci.empty.v1+json")
		}), []string{"an artifact and not a container image"}, true},
		{"artifact by type", with(func(r *recipe) { r.editManifest = beside(`"artifactType":"application/vnd.example"`) }),
			[]string{`artifact type "application/vnd.example"`}, true},
		{"layer of an artifact", with(func(r *recipe) {
			r.editManifest = replace(second, strings.Replace(second, string(types.OCILayer), "text/plain", 1))
		}), []string{"layer 2 (LAYER2)", `"text/plain"`}, true},
		{"keys equal but for case", with(func(r *recipe) { r.editManifest = beside(`"LAYERS":[]`) }), []string{`ambiguous member "LAYERS"`}, false},
		{"keys twice", with(func(r *recipe) { r.editManifest = beside(`"layers":[]`) }), []string{`"layers" appears twice`}, false},
		{"manifest and index", with(func(r *recipe) { r.editManifest = beside(`"manifests":[]`) }), []string{"ambiguous document"}, false},
		{"keys of the config", with(func(r *recipe) { r.editConfig = beside(`"RootFS":{"type":"layers","diff_ids":[]}`) }),
			[]string{"config: ", `ambiguous member "RootFS"`}, false},
		{"escape in a key", with(func(r *recipe) { r.editConfig = beside(`"HISTORY\u001b[31m":1,"history\u001b[31m":2`) }),
			[]string{`"history\x1b[31m"`}, false},
		{"rootfs of another type", with(func(r *recipe) { r.editConfig = replace(`"type":"layers"`, `"type":"\u001b[31m"`) }),
			[]string{`"rootfs": type "\x1b[31m" is not "layers"`}, false},
		{"too few diffIDs", with(func(r *recipe) { r.editConfig = replace(`,"`+sha256Of(usual.build().plain[1])+`"`, "") }),
			[]string{"layers length mismatch: the manifest has 2 layers, the config 1 diffIDs"}, false},
		{"media type of another document", with(func(r *recipe) {
			r.editManifest = replace(string(types.OCIManifestSchema1), string(types.DockerManifestSchema2))
		}), []string{"the document's media type is"}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSandbox(t)
			f := c.image.build()
			f.layout("1").save(s, "in")
			refused(t, s, f, c.texts, c.hinted)
		})
	}
}

// TestBadLayers are layers whose bytes or entries no engine could unpack.
func TestBadLayers(t *testing.T) {
	for _, c := range []struct {
		name, layer string
		// spoil changes the stored files, given the position of the layer's blob.
		spoil func(f *fixture)
		texts []string
	}{
		{"truncated", "etc/ etc/motd=" + strings.Repeat("0123456789", 2000), func(f *fixture) {
			cut := f.blobs[1][:len(f.blobs[1])/2]
			f.manifest = []byte(strings.Replace(string(f.manifest), descriptorOf(types.OCILayer, f.blobs[1]), descriptorOf(types.OCILayer, cut), 1))
			f.blobs[1] = cut
		}, []string{"unexpected EOF"}},
		{"wrong diffID", "etc/ etc/motd=x", func(f *fixture) {
			other := compressed("gzip", recipe{layers: "etc/motd=y"}.build().plain[0])
			f.manifest = []byte(strings.Replace(string(f.manifest), descriptorOf(types.OCILayer, f.blobs[1]), descriptorOf(types.OCILayer, other), 1))
			f.blobs[1] = other
		}, []string{"has the diffID sha256:", "the config says DIFFID2"}},
		{"link before its target", "etc/ etc/b⇒etc/a etc/a", nil, []string{`"etc/b"`, `hardlink target "etc/a"`}},
		{"link to itself", "etc/ etc/b⇒etc/b", nil, []string{`"etc/b"`, "hardlink to itself"}},
		{"link to a directory", "etc/ b⇒etc", nil, []string{`"b"`, `hardlink to the directory "etc"`}},
		{"link out of the root", "b⇒../../etc/passwd", nil, []string{`"b"`, `hardlink target "../../etc/passwd": name leads out of the root`}},
		{"name out of the root", "../escaped", nil, []string{`"../escaped"`, "name leads out of the root"}},
		{"name out of a folder", "etc/../../escaped", nil, []string{`"etc/../../escaped"`, "name leads out of the root"}},
		{"entry under a file", "f=1 f/x", nil, []string{`"f/x"`, "not a directory"}},
		{"whiteout without a name", "etc/ ✗etc/", nil, []string{`"etc/.wh."`, "whiteout marker without a name"}},
		{"whiteout of dots", "✗etc/..", nil, []string{`"etc/.wh..."`, "whiteout marker without a name"}},
		{"whiteout in a path", "etc/.wh.d/x", nil, []string{`"etc/.wh.d/x"`, "whiteout marker in the middle of a path"}},
		{"escape in a name", "\x1b[31m/../../x", nil, []string{`"\x1b[31m/../../x"`}},
	} {
		for _, above := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, base %t", c.name, above), func(t *testing.T) {
				s := newSandbox(t)
				f := recipe{layers: goodLayer + " | " + c.layer}.build()
				if c.spoil != nil {
					c.spoil(f)
				}
				f.layout("1").save(s, "in")
				var flags []string
				if above {
					flags = []string{"--base-layers", "2"}
				}
				refused(t, s, f, append(c.texts, "layer 2 (LAYER2): "), false, flags...)
			})
		}
	}
}

// TestBadBlobs spoils a layout after it was written.
func TestBadBlobs(t *testing.T) {
	f := recipe{layers: goodLayer + " | etc/motd=x"}.build()
	other := compressed("gzip", recipe{layers: goodLayer + " | etc/motd=y"}.build().plain[1])
	name := "in/" + blobName(sha256Of(f.blobs[1]))
	for _, c := range []struct {
		name   string
		files  files
		texts  []string
		hinted bool
	}{
		{"other content", files{{name, other}}, []string{"layer 2 (LAYER2): ", "its descriptor says LAYER2"}, false},
		{"too short", files{{name, f.blobs[1][:10]}}, []string{"layer 2 (LAYER2): "}, false},
		{"too long", files{{name, append(slices.Clone(f.blobs[1]), 0)}}, []string{"layer 2 (LAYER2): ", "its descriptor says"}, false},
		{"other config", files{{"in/" + blobName(sha256Of(f.config)), []byte("{}")}}, []string{"config: ", sha256Of(f.config)}, false},
		{"other manifest", files{{"in/" + blobName(sha256Of(f.manifest)), []byte("{}")}}, []string{sha256Of(f.manifest)}, false},
		{"no index", files{{"in/index.json", []byte("\x1b[31m")}}, []string{"reading index.json: "}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSandbox(t)
			f.layout("1").save(s, "in")
			c.files.save(s, ".")
			refused(t, s, f, c.texts, c.hinted)
		})
	}
	t.Run("missing", func(t *testing.T) {
		s := newSandbox(t)
		bare := *f
		bare.blobs = f.blobs[:1]
		bare.layout("1").save(s, "in")
		refused(t, s, f, []string{"layer 2: blob LAYER2 is missing"}, true)
	})
}

// TestBadRegistryBlob serves other bytes than the digest says.
func TestBadRegistryBlob(t *testing.T) {
	s, h := newSandbox(t), newHub(t)
	f := recipe{layers: goodLayer + " | etc/motd=x"}.build()
	source := h.push(f, "app", "1")
	h.setHook(answer("/blobs/"+sha256Of(f.blobs[1]), f.blobs[0]))
	o := s.fails(exitFailed, nil, "squash", source, h.ref("app:slim"))
	s.wantTexts(o, "layer 2 ("+sha256Of(f.blobs[1])+")")
	h.setHook(nil)
	h.wantNone("app", "slim")
}

// TestBadArchives are docker-archives that lie or are cut off.
func TestBadArchives(t *testing.T) {
	f := recipe{layers: goodLayer + " | etc/motd=x"}.build()
	good := f.dockerArchive("app:1")
	escape := func() []byte {
		var fs files
		fs.add("c.json", f.config)
		fs.add("manifest.json", encoded([]any{map[string]any{"Config": "c.json", "Layers": []string{"c.json", "../../etc/passwd"}}}))
		return fs.tar()
	}
	for _, c := range []struct {
		name    string
		archive []byte
		texts   []string
	}{
		{"cut off", good[:len(good)/2], []string{"unexpected EOF", "slim: hint: the archive is cut off"}},
		{"cut off gzip", compressed("gzip", good)[:300], []string{"unexpected EOF", "slim: hint: the archive is cut off"}},
		{"empty", nil, []string{"it is empty", "slim: hint: "}},
		{"no tar", []byte(strings.Repeat("\x1b[31m", 500)), []string{"not a tar archive", "slim: hint: "}},
		{"xz", []byte("\xfd7zXZ\x00 and so on"), []string{"xz is not a compression of images", "slim: hint: "}},
		{"no manifest", files{{"x", nil}}.tar(), []string{"no manifest.json", "slim: hint: "}},
		{"null", files{{"manifest.json", []byte("null")}}.tar(), []string{"null", "slim: hint: "}},
		{"layer outside", escape(), []string{`layer 2: "../../etc/passwd" leads out of the archive`}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSandbox(t)
			s.write("in.tar", c.archive)
			s.fails(exitFailed, c.texts, "squash", "docker-archive:in.tar", "docker-archive:out.tar")
			o := s.wantCode(exitFailed, s.pipe(c.archive, "squash", "-", "oci:out:1"))
			s.wantTexts(o, c.texts...)
		})
	}
}

// refused squashes the layout "in" into every kind of local target.
func refused(t *testing.T, s *sandbox, f *fixture, texts []string, hinted bool, flags ...string) {
	t.Helper()
	texts = slices.Clone(texts)
	for i, text := range texts {
		text = strings.ReplaceAll(text, "DIFFID2", sha256Of(f.plain[1]))
		if strings.Contains(text, "LAYER2") {
			text = strings.ReplaceAll(text, "LAYER2", sha256Of(f.blobs[1]))
		}
		texts[i] = text
	}
	s.write("there.tar", []byte("was here before"))
	for _, target := range []string{"oci:out:1", "oci-archive:out.tar", "docker-archive:there.tar", "-"} {
		o := s.fails(exitFailed, texts, append(append([]string{"squash"}, flags...), "oci:in:1", target)...)
		if strings.Contains(o.err, "slim: hint: ") != hinted {
			t.Errorf("there is a hint: %t, want %t:\n%s", !hinted, hinted, o.err)
		}
	}
}
