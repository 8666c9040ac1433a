package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/v1/types"
)

// TestRerun runs the same command twice: the second run reads and writes no blob.
func TestRerun(t *testing.T) {
	amd := recipe{layers: appLayers}.build()
	arm := recipe{layers: appLayers + " | arm=1", platform: "linux/arm64/v8"}.build()
	for _, c := range []struct {
		name  string
		index bool
		flags []string
	}{
		{"image", false, nil},
		{"index", true, nil},
		{"base", true, []string{"--base-layers", "1"}},
		{"edits", true, []string{"--label", "a=b", "--annotation", "c=d", "--created", "5"}},
		{"converted", true, []string{"--format", "docker"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, h := newSandbox(t), newHub(t)
			source := h.push(amd, "app", "1")
			if c.index {
				beside, entry := attestation(amd)
				source = h.pushIndex(indexOf(amd.platformEntry(), arm.platformEntry(), entry), "app", "all", amd, arm, beside)
			}
			for _, target := range []string{h.ref("out:slim"), "oci:out:slim"} {
				args := append(append([]string{"squash"}, c.flags...), source, target)
				first := s.done(args...)
				h.asked("")
				again := s.done(args...)
				if first.out != again.out {
					t.Errorf("%q, then %q", first.out, again.out)
				}
				s.wantTexts(again, "already squashed")
				for _, prefix := range []string{"PUT", "POST", "PATCH", "DELETE"} {
					if n := h.asked(prefix); n > 0 {
						t.Errorf("%d requests %s", n, prefix)
					}
				}
				r := s.reportOf(args...)
				if !r.Recognised || r.Before.Stored <= 0 || r.After.Stored <= 0 || r.Target.Line != strings.TrimSpace(first.out) {
					t.Errorf("report %+v", r)
				}
			}
			// The result of a run is done with the same flags, and not with others.
			h.asked("")
			if !slices.Contains(c.flags, "docker") {
				s.wantTexts(s.done(append(append([]string{"squash"}, c.flags...), h.ref("out:slim"), "oci:copy:1")...), "nothing to do, copied")
			}
			if r := s.reportOf(append(append([]string{"squash", "--remove-path", "etc/b"}, c.flags...), source, h.ref("out:slim"))...); r.Recognised || len(r.Platforms[0].Rules) == 0 {
				t.Error("other flags were taken for the same")
			}
		})
	}
}

// TestRerunReadsNoLayer counts requests for blobs.
func TestRerunReadsNoLayer(t *testing.T) {
	s, h := newSandbox(t), newHub(t)
	app := recipe{layers: appLayers}.build()
	source := h.push(app, "app", "1")
	args := []string{"squash", source, h.ref("out:slim")}
	s.done(args...)
	h.asked("")
	s.done(args...)
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, r := range h.requests {
		for _, b := range app.blobs {
			if strings.Contains(r, sha256Of(b)) {
				t.Errorf("a rerun asked %s", r)
			}
		}
	}
}

func TestRerunOfChangedSource(t *testing.T) {
	s, h := newSandbox(t), newHub(t)
	h.push(recipe{layers: appLayers}.build(), "app", "1")
	args := []string{"squash", h.ref("app:1"), h.ref("out:slim")}
	first := s.done(args...)
	h.push(recipe{layers: appLayers + " | new=1"}.build(), "app", "1")
	if second := s.done(args...); second.out == first.out {
		t.Error("a source that changed was taken for the same")
	}
	h.pull("out", "slim").wantLayers(t, strings.Replace(squashed, " usr/ ", " new=1 usr/ ", 1))
}

// derived is the image that a build makes above one with ENV alone: one more history
// entry, and no layer.
func (i *stored) derived(t *testing.T) *fixture {
	t.Helper()
	var config, manifest map[string]json.RawMessage
	var history []json.RawMessage
	if err := errors.Join(json.Unmarshal(i.config, &config), json.Unmarshal(i.manifest, &manifest), json.Unmarshal(config["history"], &history)); err != nil {
		t.Fatal(err)
	}
	config["config"] = json.RawMessage(`{"Env":["ADDED=1"]}`)
	config["history"] = encoded(append(history, json.RawMessage(`{"created_by":"ENV ADDED=1","empty_layer":true}`)))
	f := &fixture{mediaType: types.MediaType(i.mediaType), config: encoded(config), blobs: i.blobs}
	manifest["config"] = json.RawMessage(descriptorOf(types.MediaType(parseDescriptor(t, manifest["config"]).MediaType), f.config))
	f.manifest = encoded(manifest)
	return f
}

// TestTargetMoved has another image under the target's tag that looks like the result:
// it is replaced, and not taken for the result.
func TestTargetMoved(t *testing.T) {
	s, h := newSandbox(t), newHub(t)
	source := h.push(recipe{layers: appLayers}.build(), "app", "1")
	args := []string{"squash", source, h.ref("out:slim")}
	first := s.done(args...)
	again := func(what string) {
		t.Helper()
		if o := s.done(args...); o.out != first.out || strings.Contains(o.err, "already squashed") {
			t.Errorf("%s: %q, then %q:\n%s", what, first.out, o.out, o.err)
		}
	}
	h.push(h.pull("out", "slim").derived(t), "out", "slim")
	again("built on the result")
	for _, flag := range []string{"--label=x=y", "--base-layers=1", "--history=drop", "--compression=zstd", "--created=5", "--format=docker", "--min-saving=99"} {
		s.done("squash", flag, source, h.ref("out:slim"))
		again(flag)
	}
}

// TestImageAboveResult squashes an image that was built on the result with the same
// flags: what is recognised is what reading the layers would have found.
func TestImageAboveResult(t *testing.T) {
	s, h := newSandbox(t), newHub(t)
	source := h.push(recipe{layers: appLayers}.build(), "app", "1")
	for _, flags := range []string{"", "--history drop", "--base-layers 1", "--max-layer-size 1M", "--compression zstd", "--created 5", "--label a=b"} {
		args := append([]string{"squash"}, strings.Fields(flags)...)
		s.done(append(args, source, h.ref("out:slim"))...)
		above := h.push(h.pull("out", "slim").derived(t), "above", "1")
		plain := s.done(append(args, above, h.ref("out:plain"))...)
		proved := s.done(append(args, "--verify", above, h.ref("out:proved"))...)
		if plain.out != proved.out {
			t.Errorf("%q: %s, with --verify %s", flags, plain.out, proved.out)
		}
		config := h.pull("out", "plain").parseConfig(t)
		if last := config.History[len(config.History)-1]; (last.CreatedBy == "ENV ADDED=1") == (flags == "--history drop") {
			t.Errorf("%q: the last entry of the history is %+v", flags, last)
		}
	}
}

// TestArchiveOfResult pushes an archive that was squashed with the same flags: its
// layers are compressed, and those of a base are the base's.
func TestArchiveOfResult(t *testing.T) {
	for _, above := range []bool{false, true} {
		t.Run(fmt.Sprintf("base %t", above), func(t *testing.T) {
			s, h := newSandbox(t), newHub(t)
			base := recipe{layers: baseLayers, family: types.DockerManifestSchema2}.build()
			args, want := []string{"squash"}, 1
			if above {
				args, want = append(args, "--base", h.push(base, "base", "1")), 2
			}
			s.write("in.tar", recipe{layers: appLayers}.build().dockerArchive("app:1"))
			s.done(append(args, "docker-archive:in.tar", "docker-archive:1.tar")...)
			plain := s.done(append(args, "docker-archive:1.tar", h.ref("app:slim"))...)
			proved := s.done(append(args, "--verify", "docker-archive:1.tar", h.ref("app:slim"))...)
			if plain.out != proved.out {
				t.Errorf("%s, with --verify %s", plain.out, proved.out)
			}
			got := h.pull("app", "slim")
			for _, mediaType := range got.layerTypes(t) {
				if mediaType != string(types.DockerLayer) {
					t.Errorf("a layer is of type %q", mediaType)
				}
			}
			if len(got.blobs) != want || above && sha256Of(got.blobs[0]) != sha256Of(base.blobs[0]) {
				t.Errorf("%d layers, want %d and the first that of the base:\n%s", len(got.blobs), want, got.manifest)
			}
		})
	}
}

// TestRerunFromArchive recognises what came from an archive, which has no manifest or
// one that is not the target's.
func TestRerunFromArchive(t *testing.T) {
	small, large := recipe{layers: appLayers}.build(), noisy(600_000, 600_000)
	for _, flags := range []string{"", "--base-layers 1", "--history drop", "--base BASE", "--base BASE --format oci", "--label a=b --created 5", "--max-layer-size 1M", "--format oci"} {
		s, h := newSandbox(t), newHub(t)
		base := h.push(recipe{layers: baseLayers}.build(), "base", "1")
		app := small
		if strings.Contains(flags, "max-layer") {
			app = large
		}
		s.write("in.tar", app.dockerArchive("app:1"))
		s.write("in25.tar", app.dockerArchive25("app:1"))
		for _, in := range []string{"docker-archive:in.tar", "docker-archive:in25.tar"} {
			args := append([]string{"squash"}, strings.Fields(strings.ReplaceAll(flags, "BASE", base))...)
			args = append(args, in, h.ref("out:1"))
			first, again := s.done(args...), s.done(args...)
			if first.out != again.out || strings.Contains(first.err, "already squashed") || !strings.Contains(again.err, "already squashed") {
				t.Errorf("%s %s: %q, then %q:\n%s%s", flags, in, first.out, again.out, first.err, again.err)
			}
		}
	}
}

func TestSavings(t *testing.T) {
	s, h := newSandbox(t), newHub(t)
	// Most of the bytes are hidden by the second layer.
	f := noisy(300_000, 200_000)
	small := recipe{layers: appLayers}.build()
	source, little := h.push(f, "app", "1"), h.push(small, "little", "1")

	s.fails(exitNotHeld, []string{"--require-saving 99: "}, "squash", "--require-saving", "99", source, h.ref("out:no"))
	h.wantNone("out", "no")
	s.fails(exitNotHeld, []string{"--require-saving 99: "}, "squash", "--dry-run", "--require-saving", "99", source, h.ref("out:no"))
	s.fails(exitUsage, []string{"--require-saving 101 is not within"}, "squash", "--require-saving", "101", source, h.ref("out:no"))
	s.fails(exitUsage, []string{"--min-saving NaN is not within"}, "squash", "--min-saving", "nan", source, h.ref("out:no"))

	o := s.done("squash", "--min-saving", "99.5", little, h.ref("little:same"))
	s.wantTexts(o, "nothing to do, copied", "the layers stay as they are: ", "--min-saving asks for 99.5")
	if got := h.pull("little", "same"); string(got.manifest) != string(small.manifest) {
		t.Errorf("the image changed: %s", got.manifest)
	}
	s.done("squash", "--verify", "--min-saving", "99.5", "--label", "a=b", little, h.ref("little:label"))
	got := h.pull("little", "label")
	if len(got.blobs) != len(small.blobs) || !strings.Contains(string(got.config), `"Labels":{"a":"b"}`) {
		t.Errorf("%d layers, config %s", len(got.blobs), got.config)
	}

	// What was squashed without --min-saving is not what it asks for.
	s.done("squash", little, h.ref("little:slim"))
	if o := s.done("squash", "--min-saving", "99.5", little, h.ref("little:slim")); o.out != h.ref("little@"+sha256Of(small.manifest))+"\n" {
		t.Errorf("%s\n%s", o.out, o.err)
	}

	// Nothing is said of a result that is not written.
	guarded := h.push(recipe{layers: "etc/ etc/passwd=root | etc/a=1"}.build(), "guarded", "1")
	args := []string{"squash", "--remove-path", "etc/passwd", guarded, h.ref("guarded:slim")}
	s.wantTexts(s.done(args...), `warning: "etc/passwd": `)
	if o := s.done(slices.Insert(args, 1, "--min-saving=99")...); strings.Contains(o.err, "warning: ") {
		t.Errorf("a warning about layers that stay:\n%s", o.err)
	}
}

// TestGatesWriteNothing wants no blob uploaded by a run that a flag ends, or that only
// tells what it would do.
func TestGatesWriteNothing(t *testing.T) {
	s, h := newSandbox(t), newHub(t)
	app := recipe{layers: appLayers}.build()
	arm := recipe{layers: appLayers + " | arm=1", platform: "linux/arm64"}.build()
	beside, entry := attestation(app)
	source := h.pushIndex(indexOf(app.platformEntry(), arm.platformEntry(), entry), "app", "1", app, arm, beside)
	for flags, code := range map[string]int{
		"--require-saving 99":                          exitNotHeld,
		"--attestations fail":                          exitNotHeld,
		"--require-saving 99 --verify --base-layers 1": exitNotHeld,
		"--attestations fail --base-layers 1":          exitNotHeld,
		"--min-saving 100 --require-saving 1":          exitNotHeld,
		"--dry-run --verify":                           exitDone,
	} {
		for _, target := range []string{h.ref("no:1"), "oci:no:1", "oci-archive:no.tar"} {
			h.asked("")
			o := s.run(append(append([]string{"squash"}, strings.Fields(flags)...), source, target)...)
			if o.code != code {
				t.Errorf("%s: exit code %d, want %d:\n%s", flags, o.code, code, o.err)
			}
			if n := h.asked("P"); n > 0 {
				t.Errorf("%s: %d requests write", flags, n)
			}
		}
	}
	entries, err := os.ReadDir(".")
	if len(entries) > 0 || err != nil {
		t.Errorf("there is %v: %v", entries, err)
	}
}

func TestInPlace(t *testing.T) {
	s, h := newSandbox(t), newHub(t)
	f := recipe{layers: appLayers}.build()
	source := h.push(f, "app", "1")
	s.fails(exitUsage, []string{"SOURCE and TARGET are the same tag", "--in-place"}, "squash", source, source)
	o := s.done("squash", "--in-place", source, source)
	s.wantTexts(o, "note: the tag was "+sha256Of(f.manifest))
	h.pull("app", "1").wantLayers(t, squashed)
	s.wantTexts(s.done("squash", "--in-place", source, source), "nothing to do")
}

// TestMovedTag pushes another image under the tag while the first is worked on.
func TestMovedTag(t *testing.T) {
	s, h := newSandbox(t), newHub(t)
	other := recipe{layers: "other=1"}.build()
	source := h.push(recipe{layers: appLayers}.build(), "app", "1")
	moved := false
	h.setHook(func(_ http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodPost && !moved {
			moved = true
			h.setHook(nil)
			h.push(other, "app", "1")
		}
		return false
	})
	s.fails(exitFailed, []string{"the tag moved"}, "squash", "--in-place", source, source)
	if got := h.pull("app", "1"); string(got.manifest) != string(other.manifest) {
		t.Error("the tag that moved was overwritten")
	}
}

func TestEdits(t *testing.T) {
	s, h := newSandbox(t), newHub(t)
	source := h.push(recipe{layers: appLayers}.build(), "app", "1")
	s.done("squash", "--label", "a=1", "--label", "b=x=y", "--label", "a-", "--annotation", "n=v", "--created", "2020-01-02T03:04:05Z", source, h.ref("app:edited"))
	got := h.pull("app", "edited")
	for _, want := range []string{`"Labels":{"b":"x=y"}`, `"created":"2020-01-02T03:04:05Z"`} {
		if !strings.Contains(string(got.config), want) {
			t.Errorf("the config lacks %s: %s", want, got.config)
		}
	}
	if !strings.Contains(string(got.manifest), `"annotations":{"n":"v"}`) {
		t.Errorf("manifest %s", got.manifest)
	}
	t.Setenv("SOURCE_DATE_EPOCH", "60")
	s.done("squash", source, h.ref("app:epoch"))
	if got := h.pull("app", "epoch"); !strings.Contains(string(got.config), `"created":"1970-01-01T00:01:00Z"`) {
		t.Errorf("config %s", got.config)
	}
	for args, text := range map[string]string{
		"--label=x":                        `--label "x" is neither K=V nor K-`,
		"--annotation==v":                  `--annotation "=v" is neither`,
		"--created=yesterday":              "--created: ",
		"--max-layer-size=much":            `--max-layer-size "much" is no size`,
		"--max-layer-size=1k":              "is less than 1MB",
		"--format=oci2":                    `--format "oci2" is none of`,
		"--attestations=keep":              `--attestations "keep" is none of`,
		"--format=docker --annotation=a=b": "a Docker manifest has no annotations",
	} {
		o := s.run(append(append([]string{"squash"}, strings.Fields(args)...), source, h.ref("out:no"))...)
		if o.code == exitDone || !strings.Contains(o.err, text) {
			t.Errorf("%s: exit code %d, the error lacks %q: %s", args, o.code, text, o.err)
		}
	}
}

func TestFormat(t *testing.T) {
	s, h := newSandbox(t), newHub(t)
	amd := recipe{layers: appLayers}.build()
	arm := recipe{layers: "etc/ etc/a=1", platform: "linux/arm64/v8"}.build()
	win := recipe{layers: "x=1", platform: "windows/amd64"}.build()
	source := h.pushIndex(member(indexOf(amd.platformEntry(), arm.platformEntry()), `"annotations":{"a":"b"}`), "app", "1", amd, arm)
	o := s.done("squash", "--format", "docker", "--base-layers", "1", source, h.ref("out:docker"))
	s.wantTexts(o, "the index has no annotations any more")
	index := h.pullIndex("out", "docker")
	if index.MediaType != string(types.DockerManifestList) || len(index.Annotations) > 0 {
		t.Errorf("index %s", index.raw)
	}
	for i, m := range index.Manifests {
		got := h.pull("out", m.Digest)
		if m.MediaType != string(types.DockerManifestSchema2) || strings.Contains(string(got.manifest), "vnd.oci") {
			t.Errorf("entry %d mixes families: %s", i, got.manifest)
		}
	}
	s.done("squash", "--format", "oci", h.ref("out:docker"), h.ref("out:oci"))
	if index := h.pullIndex("out", "oci"); index.MediaType != string(types.OCIImageIndex) || strings.Contains(string(index.raw), "vnd.docker") {
		t.Errorf("index %s", index.raw)
	}
	s.fails(exitUsage, []string{"--format docker has no media type for zstd"}, "squash", "--format", "docker", "--compression", "zstd", source, h.ref("out:no"))
	zstd := h.push(recipe{layers: appLayers, compression: "zstd"}.build(), "zstd", "1")
	s.fails(exitFailed, []string{"--format oci"}, "squash", "--format", "docker", "--base-layers", "1", zstd, h.ref("out:no"))
	s.done("squash", "--format", "docker", zstd, h.ref("out:gzip"))
	mixed := h.pushIndex(indexOf(amd.platformEntry(), win.platformEntry()), "app", "mixed", amd, win)
	s.fails(exitFailed, []string{`the image for "windows/amd64" is copied as it is`, "--platform"}, "squash", "--format", "docker", mixed, h.ref("out:no"))
	h.wantNone("out", "no")
}

// TestFormatKeepsLayers changes the documents alone, or those of kept layers.
func TestFormatKeepsLayers(t *testing.T) {
	s, h := newSandbox(t), newHub(t)
	annotated := func(m string) string {
		return strings.Replace(m, `{"schemaVersion":2,`, `{"schemaVersion":2,"annotations":{"a":"b"},`, 1)
	}
	for _, layers := range []string{appLayers, goodLayer} {
		source := h.push(recipe{layers: layers, editManifest: annotated}.build(), "app", "1")
		s.wantTexts(s.done("squash", "--format", "docker", source, h.ref("out:slim")), "annotation is left out")
	}
	app := recipe{layers: appLayers, compression: "none,gzip,zstd"}.build()
	source := h.push(app, "app", "2")
	args := []string{"squash", "--base-layers", "1", "--format", "docker", source, h.ref("out:docker")}
	s.done(slices.Insert(args, 1, "--verify")...)
	s.wantTexts(s.done(args...), "already squashed")
	s.done("squash", "--base-layers", "1", "--format", "oci", h.ref("out:docker"), h.ref("out:oci"))
	for tag, want := range map[string][]types.MediaType{
		"docker": {types.DockerUncompressedLayer, types.DockerLayer},
		"oci":    {types.OCIUncompressedLayer, types.OCILayer},
	} {
		got := h.pull("out", tag)
		got.wantLayers(t, baseLayers, aboveBase)
		if is := got.layerTypes(t); fmt.Sprint(is) != fmt.Sprint(want) || sha256Of(got.blobs[0]) != sha256Of(app.blobs[0]) {
			t.Errorf("%s: layers of type %q, want %q and the first as it was", tag, is, want)
		}
	}
}

func TestAttestations(t *testing.T) {
	s, h := newSandbox(t), newHub(t)
	app := recipe{layers: appLayers}.build()
	done := recipe{layers: "etc/ etc/a=1", platform: "linux/riscv64"}.build()
	beside, entry := attestation(app)
	kept, keptEntry := attestation(done)
	source := h.pushIndex(indexOf(app.platformEntry(), done.platformEntry(), entry, keptEntry), "app", "1", app, done, beside, kept)
	signature := recipe{layers: "sig=1"}.build()
	h.push(signature, "app", "sha256-"+hexOf(app.manifest)+".sig")

	o := s.fails(exitNotHeld, []string{"--attestations fail: ", "2 documents"}, "squash", "--attestations", "fail", source, h.ref("out:no"))
	if strings.Contains(o.err, sha256Of(kept.manifest)) {
		t.Error("the attestation of an image that does not change is counted")
	}
	h.wantNone("out", "no")
	s.done("squash", "--attestations", "fail", "--platform", "linux/riscv64", source, h.ref("out:done"))
	r := s.reportOf("squash", source, h.ref("out:slim"))
	var got []string
	for _, i := range r.Invalidated {
		got = append(got, i.Subject+" "+i.Digest)
	}
	want := []string{sha256Of(app.manifest) + " " + sha256Of(beside.manifest), sha256Of(app.manifest) + " " + sha256Of(signature.manifest)}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("invalidated %q, want %q", got, want)
	}
}

// TestIndexSignature counts the signature of an index that changes though no image in
// it does.
func TestIndexSignature(t *testing.T) {
	s, h := newSandbox(t), newHub(t)
	amd := recipe{layers: goodLayer}.build()
	arm := recipe{layers: goodLayer, platform: "linux/arm64"}.build()
	riscv := recipe{layers: goodLayer, platform: "linux/riscv64"}.build()
	index := indexOf(amd.platformEntry(), arm.platformEntry(), riscv.platformEntry())
	source := h.pushIndex(index, "app", "1", amd, arm, riscv)
	h.push(recipe{layers: "sig=1"}.build(), "app", "sha256-"+hexOf(index)+".sig")
	for _, flags := range []string{"--platform linux/amd64 --platform linux/arm64", "--annotation a=b"} {
		s.fails(exitNotHeld, []string{"--attestations fail: 1 document", " of " + sha256Of(index) + ` ("cosign signature")`},
			append(append([]string{"squash", "--attestations", "fail"}, strings.Fields(flags)...), source, h.ref("out:no"))...)
	}
	h.wantNone("out", "no")
	s.done("squash", "--attestations", "fail", source, h.ref("out:same"))
	s.done("squash", "--attestations", "fail", "--platform", "linux/amd64", source, h.ref("out:one"))
}

// provenance is what BuildKit says of the images that went into a build.
func provenance(h *hub, repo string, of *fixture, materials string) string {
	statement := []byte(fmt.Sprintf(`{"predicateType":"https://slsa.dev/provenance/v0.2","predicate":{"materials":[%s]}}`, materials))
	config := []byte(`{}`)
	for _, b := range [][]byte{statement, config} {
		h.send("POST", repo+"/blobs/uploads/?digest="+sha256Of(b), "application/octet-stream", b)
	}
	manifest := []byte(fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"config":%s,"layers":[{"mediaType":"application/vnd.in-toto+json","size":%d,"digest":%q,"annotations":{"in-toto.io/predicate-type":"https://slsa.dev/provenance/v0.2"}}]}`,
		types.OCIManifestSchema1, descriptorOf(types.OCIConfigJSON, config), len(statement), sha256Of(statement)))
	h.send("PUT", repo+"/manifests/"+sha256Of(manifest), types.OCIManifestSchema1, manifest)
	return fmt.Sprintf(`{"mediaType":%q,"size":%d,"digest":%q,"platform":{"os":"unknown","architecture":"unknown"},"annotations":{"vnd.docker.reference.type":"attestation-manifest","vnd.docker.reference.digest":%q}}`,
		types.OCIManifestSchema1, len(manifest), sha256Of(manifest), sha256Of(of.manifest))
}

func TestBaseAuto(t *testing.T) {
	base := recipe{layers: baseLayers}.build()
	other := recipe{layers: "other=1"}.build()
	for _, c := range []struct {
		name string
		// NAME and DIGEST stand for the base.
		annotations, labels, materials string
		rule                           string
	}{
		{name: "annotations", annotations: `"org.opencontainers.image.base.name":"NAME","org.opencontainers.image.base.digest":"DIGEST"`, rule: "annotations of the manifest"},
		{name: "name alone", annotations: `"org.opencontainers.image.base.name":"NAME"`, rule: "annotations of the manifest"},
		{name: "labels", labels: `"org.opencontainers.image.base.name":"NAME","org.opencontainers.image.base.digest":"DIGEST"`, rule: "labels"},
		{name: "annotation of another", annotations: `"org.opencontainers.image.base.name":"OTHER"`, labels: `"org.opencontainers.image.base.name":"NAME"`, rule: "labels"},
		{name: "labels with a digest that is none", annotations: `"org.opencontainers.image.base.name":"NAME"`, labels: `"org.opencontainers.image.base.digest":"none"`, rule: "annotations of the manifest"},
		{name: "provenance", materials: `{"uri":"pkg:docker/OTHERNAME@1?platform=linux%2Famd64"},{"uri":"pkg:docker/BASENAME@1?platform=linux%2Famd64","digest":{"sha256":"HEX"}}`, rule: "BuildKit provenance"},
		{name: "nothing"},
		{name: "nothing that matches", annotations: `"org.opencontainers.image.base.name":"OTHER"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, h := newSandbox(t), newHub(t)
			h.push(base, "base", "1")
			h.push(other, "other", "1")
			fill := strings.NewReplacer("OTHERNAME", h.ref("other"), "BASENAME", h.ref("base"), "OTHER", h.ref("other:1"), "NAME", h.ref("base:1"), "DIGEST", sha256Of(base.manifest), "HEX", hexOf(base.manifest))
			app := recipe{layers: appLayers, editManifest: func(m string) string {
				if c.annotations == "" {
					return m
				}
				return strings.Replace(m, `{"schemaVersion":2,`, `{"schemaVersion":2,"annotations":{`+fill.Replace(c.annotations)+`},`, 1)
			}, editConfig: func(m string) string {
				return strings.Replace(m, `"config":{`, `"config":{"Labels":{`+fill.Replace(c.labels)+`},`, 1)
			}}.build()
			entries := []string{app.platformEntry()}
			if c.materials != "" {
				entries = append(entries, provenance(h, "app", app, fill.Replace(c.materials)))
			}
			source := h.pushIndex(indexOf(entries...), "app", "1", app)
			if c.rule == "" {
				s.fails(exitFailed, []string{"finding the base of ", "--base-layers"}, "squash", "--base", "auto", source, h.ref("out:no"))
				h.wantNone("out", "no")
				return
			}
			o := s.done("squash", "--base", "auto", "--platform", "linux/amd64", source, h.ref("out:slim"))
			s.wantTexts(o, "slim: asking "+h.host+" for the base ", "named by "+c.rule)
			got := h.pull("out", "slim")
			got.wantLayers(t, baseLayers, aboveBase)
			if !strings.Contains(string(got.manifest), `base.digest":"`+sha256Of(base.manifest)) {
				t.Errorf("manifest %s", got.manifest)
			}
		})
	}
}
