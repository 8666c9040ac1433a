package main

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/v1/types"
)

// attestation is what BuildKit puts beside an image.
func attestation(of *fixture) (*fixture, string) {
	a := recipe{layers: "statement=" + hexOf(of.manifest), platform: "unknown/unknown"}.build()
	return a, a.entry(`"platform":{"os":"unknown","architecture":"unknown"}`,
		fmt.Sprintf(`"annotations":{"vnd.docker.reference.type":"attestation-manifest","vnd.docker.reference.digest":%q}`, sha256Of(of.manifest)))
}

// pushIndex stores an index and the images in it.
func (h *hub) pushIndex(index []byte, repo, tag string, fixtures ...*fixture) string {
	h.t.Helper()
	for _, f := range fixtures {
		h.push(f, repo, "child")
	}
	h.send("PUT", repo+"/manifests/"+tag, types.OCIImageIndex, index)
	return h.ref(repo + ":" + tag)
}

// indexEntry is the descriptor of an index in another, with further members.
func indexEntry(index []byte, members ...string) string {
	return (&fixture{mediaType: types.OCIImageIndex, manifest: index}).entry(members...)
}

// layoutOfIndex is a layout with an index under the name "1", and the blobs of fixtures.
func layoutOfIndex(index []byte, fixtures ...*fixture) files {
	fs := layoutOf(indexOf(indexEntry(index, named("1"))), fixtures...)
	fs.add(blobName(sha256Of(index)), index)
	return fs
}

// notes are those of the JSON report.
func (s *sandbox) notes(args ...string) []string {
	s.t.Helper()
	return s.reportOf(append([]string{"squash", "--dry-run"}, args...)...).Notes
}

// reportOf runs slim and returns its report.
func (s *sandbox) reportOf(args ...string) *report {
	s.t.Helper()
	o := s.done(append(args, "--report", "-")...)
	r := &report{}
	if err := json.Unmarshal([]byte(o.out), r); err != nil {
		s.t.Fatal(err)
	}
	return r
}

// indexDoc is an index that was written, with the images in it.
type indexDoc struct {
	MediaType   string
	Annotations map[string]string
	Manifests   []struct {
		descriptorDoc
		Platform map[string]any
	}
	raw []byte
}

// pullIndex reads an index of the registry.
func (h *hub) pullIndex(repo, tag string) *indexDoc {
	h.t.Helper()
	raw, mediaType := h.get(repo + "/manifests/" + tag)
	i := &indexDoc{raw: raw}
	if err := json.Unmarshal(raw, i); err != nil {
		h.t.Fatal(err)
	}
	if i.MediaType != mediaType {
		h.t.Errorf("%s:%s says %q, the registry %q", repo, tag, i.MediaType, mediaType)
	}
	return i
}

// digests are those of the entries.
func (i *indexDoc) digests() []string {
	var all []string
	for _, m := range i.Manifests {
		all = append(all, m.Digest)
	}
	return all
}

func TestIndexOfOneImage(t *testing.T) {
	app := recipe{layers: appLayers}.build()
	beside, entry := attestation(app)
	index := indexOf(app.platformEntry(), entry)
	for _, from := range []string{"registry", "oci", "oci-archive", "stdin"} {
		t.Run(from, func(t *testing.T) {
			s, h := newSandbox(t), newHub(t)
			fs := layoutOfIndex(index, app, beside)
			source, stdin := "oci:in:1", []byte(nil)
			switch from {
			case "registry":
				source = h.pushIndex(index, "app", "1", app, beside)
			case "oci":
				fs.save(s, "in")
			case "oci-archive":
				s.write("in.tar", fs.tar())
				source = "oci-archive:in.tar:1"
			case "stdin":
				source, stdin = "-", fs.tar()
			}
			s.wantCode(exitDone, s.pipe(stdin, "squash", source, "oci:out:1"))
			s.layoutImage("out", "1").wantLayers(t, squashed)
		})
	}
}

func TestSeveralPlatforms(t *testing.T) {
	s, h := newSandbox(t), newHub(t)
	amd := recipe{layers: appLayers}.build()
	arm := recipe{layers: appLayers + " | arm=1", platform: "linux/arm64/v8"}.build()
	win := recipe{layers: "Files/ Files/x=1", platform: "windows/amd64"}.build()
	source := h.pushIndex(indexOf(amd.platformEntry(), arm.platformEntry(), win.platformEntry()), "app", "1", amd, arm, win)

	s.fails(exitUsage, []string{"holds one image, and the source has several: linux/amd64, linux/arm64/v8\n", "slim: hint: select one with --platform"},
		"squash", source, "docker-archive:out.tar")
	s.fails(exitUsage, []string{`no image for "linux/s390x"`, "slim: hint: it holds linux/amd64, linux/arm64/v8, windows/amd64"},
		"squash", "--platform", "linux/s390x", source, h.ref("app:slim"))
	s.fails(exitFailed, []string{"images for windows are not supported", "slim: hint: "},
		"squash", "--platform", "windows/amd64", source, h.ref("app:slim"))
	for _, platform := range []string{"linux/arm64", "linux/arm64/v8"} {
		s.done("squash", "--platform", platform, source, h.ref("app:arm"))
		h.pull("app", "arm").wantLayers(t, "arm=1 "+squashed)
	}
	s.done("squash", "--platform=linux/amd64", source, h.ref("app:amd"))
	h.pull("app", "amd").wantLayers(t, squashed)
	s.done("squash", "--platform=linux/amd64", source, "docker-archive:amd.tar")

	// The base is taken for the platform of the image.
	base := recipe{layers: baseLayers}.build()
	armBase := recipe{layers: baseLayers, platform: "linux/arm64/v8"}.build()
	baseRef := h.pushIndex(indexOf(base.platformEntry(), armBase.platformEntry()), "base", "1", base, armBase)
	s.done("squash", "--base", baseRef, source, h.ref("app:above"))
	above := h.pullIndex("app", "above").digests()
	for i, b := range []struct {
		base  *fixture
		upper string
	}{{base, aboveBase}, {armBase, "arm=1 " + aboveBase}} {
		got := h.pull("app", above[i])
		got.wantLayers(t, baseLayers, b.upper)
		if !strings.Contains(string(got.manifest), `base.digest":"`+sha256Of(b.base.manifest)) {
			t.Errorf("the base is not the one for the platform:\n%s", got.manifest)
		}
	}
}

// member adds a member to an index.
func member(index []byte, text string) []byte {
	return []byte(strings.Replace(string(index), "{", "{"+text+",", 1))
}

// TestIndex rewrites an index with all that may be in one.
func TestIndex(t *testing.T) {
	amd := recipe{layers: appLayers}.build()
	arm := recipe{layers: appLayers + " | arm=1", platform: "linux/arm64/v8"}.build()
	done := recipe{layers: "etc/ etc/a=1", platform: "linux/riscv64"}.build()
	nestedOnly := recipe{layers: appLayers + " | s=1", platform: "linux/s390x"}.build()
	win := recipe{layers: "Files/ Files/x=1", platform: "windows/amd64"}.build()
	beside, besideEntry := attestation(amd)
	kept, keptEntry := attestation(done)
	nested := indexOf(nestedOnly.platformEntry())
	nestedEntry := fmt.Sprintf(`{"mediaType":%q,"digest":%q,"size":%d,"annotations":{"n":"1"}}`, types.OCIImageIndex, sha256Of(nested), len(nested))
	index := member(indexOf(amd.platformEntry(), win.platformEntry(), besideEntry, arm.platformEntry(), done.platformEntry(), keptEntry, nestedEntry, amd.platformEntry()),
		`"annotations":{"b":"2","a":"1"},"x-unknown":[1.0,{"b":1,"a":2}]`)
	s, h := newSandbox(t), newHub(t)
	h.pushIndex(nested, "app", "nested", nestedOnly)
	source := h.pushIndex(index, "app", "1", amd, arm, done, win, beside, kept)
	r := s.reportOf("squash", source, h.ref("out:slim"))

	got := h.pullIndex("out", "slim")
	d := got.digests()
	if len(d) != 7 {
		t.Fatalf("%d entries, want 7: %s", len(d), got.raw)
	}
	h.pull("out", d[0]).wantLayers(t, squashed)
	h.pull("out", d[2]).wantLayers(t, "arm=1 "+squashed)
	if d[6] != d[0] {
		t.Error("the image that is listed twice became two")
	}
	for i, want := range map[int]*fixture{1: win, 3: done, 4: kept} {
		if d[i] != sha256Of(want.manifest) {
			t.Errorf("entry %d is not as it was", i)
		}
		if m, _ := h.get("out/manifests/" + d[i]); m == nil {
			t.Errorf("entry %d was not copied", i)
		}
	}
	below := h.pullIndex("out", d[5])
	h.pull("out", below.digests()[0]).wantLayers(t, strings.Replace(squashed, " usr/ ", " s=1 usr/ ", 1))
	if got.Manifests[5].Annotations["n"] != "1" || got.Manifests[2].Platform["variant"] != "v8" {
		t.Errorf("annotations or platforms are lost: %s", got.raw)
	}
	if !strings.Contains(string(got.raw), `"annotations":{"b":"2","a":"1"},"x-unknown":[1.0,{"b":1,"a":2}]`) {
		t.Errorf("members of the index are not as they were: %s", got.raw)
	}
	if len(r.Platforms) != 4 || len(r.Invalidated) != 1 || r.Invalidated[0].Digest != sha256Of(beside.manifest) {
		t.Errorf("%d platforms, invalidated %+v, want 4 and the one attestation", len(r.Platforms), r.Invalidated)
	}
	if !slices.Contains(r.Notes, `the image for "windows/amd64" is copied as it is`) {
		t.Errorf("notes %q", r.Notes)
	}
	for _, to := range []string{"oci:out:1", "oci-archive:out.tar"} {
		o := s.done("squash", source, to)
		if strings.TrimSpace(o.out) != sha256Of(got.raw) {
			t.Errorf("%s is %s, in the registry %s", to, o.out, sha256Of(got.raw))
		}
	}
}

// TestSelectedPlatforms leaves out what was not selected.
func TestSelectedPlatforms(t *testing.T) {
	s, h := newSandbox(t), newHub(t)
	amd := recipe{layers: appLayers}.build()
	arm := recipe{layers: appLayers + " | arm=1", platform: "linux/arm64/v8"}.build()
	done := recipe{layers: "etc/ etc/a=1", platform: "linux/riscv64"}.build()
	win := recipe{layers: "Files/ Files/x=1", platform: "windows/amd64"}.build()
	kept, keptEntry := attestation(done)
	gone, goneEntry := attestation(arm)
	source := h.pushIndex(indexOf(amd.platformEntry(), arm.platformEntry(), win.platformEntry(), done.platformEntry(), keptEntry, goneEntry), "app", "1", amd, arm, win, done, kept, gone)
	s.done("squash", "--platform", "linux/riscv64", "--platform", "linux/amd64", source, h.ref("out:two"))
	d := h.pullIndex("out", "two").digests()
	if len(d) != 3 || d[1] != sha256Of(done.manifest) || d[2] != sha256Of(kept.manifest) {
		t.Errorf("entries %q, want linux/amd64, linux/riscv64 and its attestation", d)
	}
	h.pull("out", d[0]).wantLayers(t, squashed)
}

// TestSparseArchive is what docker save writes of an image of several platforms.
func TestSparseArchive(t *testing.T) {
	s := newSandbox(t)
	app := recipe{layers: goodLayer}.build()
	absent := recipe{layers: goodLayer + " | x=1", platform: "linux/arm64"}.build()
	layoutOf(indexOf(absent.platformEntry(), app.platformEntry()), app).save(s, "in")
	notes := s.notes("oci:in", "oci:out:1")
	if len(notes) != 1 || !strings.Contains(notes[0], sha256Of(absent.manifest)) {
		t.Errorf("notes %q, want one about %s", notes, sha256Of(absent.manifest))
	}
	s.fails(exitUsage, []string{`no image for "linux/arm64"`, "whose manifest " + sha256Of(absent.manifest) + " is not stored"},
		"squash", "--platform", "linux/arm64", "oci:in", "oci:out:1")
}

// TestRootsWithoutIndex tells what is left out where no index is above the images.
func TestRootsWithoutIndex(t *testing.T) {
	s := newSandbox(t)
	amd := recipe{layers: appLayers}.build()
	arm := recipe{layers: appLayers + " | arm=1", platform: "linux/arm64"}.build()
	win := recipe{layers: "Files/ Files/x=1", platform: "windows/amd64"}.build()
	absent := recipe{layers: "s=1", platform: "linux/s390x"}.build()
	beside, entry := attestation(amd)
	layoutOf(indexOf(amd.platformEntry(), arm.platformEntry(), win.platformEntry(), absent.platformEntry(), entry), amd, arm, win, beside).save(s, "in")
	o := s.done("squash", "oci:in", "oci:out:1")
	s.wantTexts(o, `the image for "windows/amd64" was left out`, `the image for "linux/s390x", whose manifest `+sha256Of(absent.manifest))
}

// TestOneImageOfAnIndex tells what becomes of the rest of an index.
func TestOneImageOfAnIndex(t *testing.T) {
	amd := recipe{layers: goodLayer}.build()
	win := recipe{layers: "Files/ Files/x=1", platform: "windows/amd64"}.build()
	beside, entry := attestation(amd)
	for _, c := range []struct {
		name, entry, note string
		other             *fixture
		args              []string
	}{
		{"Windows, target of one image", win.platformEntry(), `the image for "windows/amd64" was left out`, win, []string{"docker-archive:out.tar"}},
		{"attestation, target of one image", entry, "attestation", beside, []string{"docker-archive:out.tar"}},
		{"attestation, one selected", entry, "attestation", beside, []string{"oci:out:1", "--platform", "linux/amd64"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, h := newSandbox(t), newHub(t)
			source := h.pushIndex(indexOf(amd.platformEntry(), c.entry), "app", "1", amd, c.other)
			o := s.done(append([]string{"squash", source}, c.args...)...)
			s.wantTexts(o, c.note)
			if strings.Contains(o.err, "is copied as it is") {
				t.Errorf("something is said to be copied:\n%s", o.err)
			}
		})
	}
}

// TestOneManifestForTwoPlatforms selects an image by each platform that it is listed
// for.
func TestOneManifestForTwoPlatforms(t *testing.T) {
	s, h := newSandbox(t), newHub(t)
	app := recipe{layers: appLayers}.build()
	source := h.pushIndex(indexOf(app.platformEntry(), app.entry(`"platform":{"os":"linux","architecture":"arm64"}`)), "app", "1", app)
	for _, platform := range []string{"linux/amd64", "linux/arm64"} {
		s.done("squash", "--platform", platform, source, h.ref("out:1"))
		h.pull("out", "1").wantLayers(t, squashed)
	}
	s.done("squash", source, h.ref("out:all"))
	if d := h.pullIndex("out", "all").digests(); len(d) != 2 || d[0] != d[1] || d[0] == sha256Of(app.manifest) {
		t.Errorf("entries %q", d)
	}
}

// TestBaseInAnEntry keeps what an entry says of a base only where the image still has
// that base.
func TestBaseInAnEntry(t *testing.T) {
	s, h := newSandbox(t), newHub(t)
	const base = `"annotations":{"org.opencontainers.image.base.name":"b:1"}`
	app := recipe{layers: appLayers}.build()
	done := recipe{layers: goodLayer, platform: "linux/arm64"}.build()
	source := h.pushIndex(indexOf(app.entry(`"platform":{`+platformMembers(app.platform)+`}`, base), done.entry(`"platform":{`+platformMembers(done.platform)+`}`, base)), "app", "1", app, done)
	s.done("squash", source, h.ref("out:1"))
	m := h.pullIndex("out", "1").Manifests
	if len(m[0].Annotations) > 0 || len(m[1].Annotations) != 1 {
		t.Errorf("annotations %q of the image that was squashed whole, %q of the other", m[0].Annotations, m[1].Annotations)
	}
}

// TestListWithoutMediaType rewrites Docker's list that does not say what it is.
func TestListWithoutMediaType(t *testing.T) {
	amd := recipe{layers: appLayers, family: types.DockerManifestSchema2}.build()
	arm := recipe{layers: appLayers + " | arm=1", family: types.DockerManifestSchema2, platform: "linux/arm64"}.build()
	list := fmt.Appendf(nil, `{"schemaVersion":2,"manifests":[%s,%s]}`, amd.platformEntry(), arm.platformEntry())
	s, h := newSandbox(t), newHub(t)
	h.push(amd, "app", "x")
	h.push(arm, "app", "x")
	h.send("PUT", "app/manifests/1", types.DockerManifestList, list)
	for format, want := range map[string]struct{ list, image types.MediaType }{
		"source": {types.DockerManifestList, types.DockerManifestSchema2},
		"docker": {types.DockerManifestList, types.DockerManifestSchema2},
		"oci":    {types.OCIImageIndex, types.OCIManifestSchema1},
	} {
		s.done("squash", "--verify", "--format", format, h.ref("app:1"), h.ref("out:1"))
		raw, mediaType := h.get("out/manifests/1")
		var index indexDoc
		if err := json.Unmarshal(raw, &index); err != nil {
			t.Fatal(err)
		}
		if mediaType != string(want.list) || index.MediaType != "" && index.MediaType != mediaType {
			t.Errorf("%s: the list is of type %q and says %q", format, mediaType, index.MediaType)
		}
		for i, layers := range []string{squashed, "arm=1 " + squashed} {
			got := h.pull("out", index.Manifests[i].Digest)
			got.wantLayers(t, layers)
			if got.mediaType != string(want.image) || index.Manifests[i].MediaType != got.mediaType {
				t.Errorf("%s: image %d is of type %q, its entry says %q", format, i, got.mediaType, index.Manifests[i].MediaType)
			}
		}
		s.done("squash", "--format", format, h.ref("app:1"), "oci:out:"+format)
		if text := fmt.Sprintf(`{"mediaType":%q,"size":%d,"digest":%q,%s}`, want.list, len(raw), sha256Of(raw), named(format)); !strings.Contains(s.read("out/index.json"), text) {
			t.Errorf("%s: the layout lacks %s: %s", format, text, s.read("out/index.json"))
		}
	}
}

// TestWindowsIsCopied takes a Windows image into all kinds of targets as it is, its
// foreign layer too, and writes no target where a blob of it is missing.
func TestWindowsIsCopied(t *testing.T) {
	amd := recipe{layers: appLayers}.build()
	win := recipe{layers: "Files/ Files/x=1 | Files/y=1", platform: "windows/amd64", descriptors: map[int]string{0: `"urls":["https://example.com/x"]`}}.build()
	bare := *win
	bare.blobs = win.blobs[:1]
	index := indexOf(amd.platformEntry(), win.platformEntry())
	s, h := newSandbox(t), newHub(t)
	layoutOfIndex(index, amd, win).save(s, "in")
	layoutOfIndex(index, amd, &bare).save(s, "bare")
	lines := map[string]bool{}
	for _, target := range []string{"oci:out:1", "oci-archive:out.tar:1", h.ref("out:1")} {
		o := s.done("squash", "--verify", "oci:in:1", target)
		s.wantTexts(o, `the image for "windows/amd64" is copied as it is`)
		lines[strings.TrimPrefix(o.out, h.ref("out@"))] = true
	}
	if len(lines) != 1 {
		t.Errorf("the targets hold %v", lines)
	}
	if d := h.pullIndex("out", "1").digests(); d[1] != sha256Of(win.manifest) {
		t.Errorf("the Windows image is now %s", d[1])
	}
	h = newHub(t) // the other has the blob
	for _, target := range []string{"oci:no:1", "oci-archive:no.tar:1", h.ref("no:1")} {
		s.fails(exitFailed, []string{"writing " + target, "blob " + sha256Of(win.blobs[1]) + " is missing", "slim: hint: "}, "squash", "oci:bare:1", target)
	}
	h.wantNone("no", "1")
}

// TestPlatformsAsAlone squashes images together that share layers: each is what it would
// be alone.
func TestPlatformsAsAlone(t *testing.T) {
	const base = "etc/ etc/a=1{user.k=v} etc/b⇒etc/a{user.k=v} etc/c=C var/ var/cache/ var/cache/apk/ var/cache/apk/j=J | mid=M{user.m=1} mid2⇒mid{user.m=1} | "
	var all []*fixture
	var entries []string
	for _, c := range []struct{ platform, upper string }{
		{"linux/amd64", "x⇒etc/a{user.k=v} | y=1 var/cache/apk/k=K"},
		{"linux/arm64", "✗etc/c mid3⇒mid{user.m=1} | etc/c=D z=2"},
		{"linux/s390x", "x⇒etc/a{user.k=v} | y=1 var/cache/apk/k=K | etc/c(0600)=C q⇒mid2{user.m=1}"},
	} {
		f := recipe{layers: base + c.upper, platform: c.platform}.build()
		all, entries = append(all, f), append(entries, f.platformEntry())
	}
	for _, flags := range []string{"", "--base-layers 1", "--base-layers 2 --base-junk hide", "--no-cache --base-layers 1 --max-layer-size 1M --history drop", "--base-layers 3"} {
		s, h := newSandbox(t), newHub(t)
		source := h.pushIndex(indexOf(entries...), "app", "1", all...)
		args := append([]string{"squash"}, strings.Fields(flags)...)
		s.done(append(args, source, h.ref("out:1"))...)
		s.done(append(args, "--verify", source, h.ref("out:proved"))...)
		together := h.pullIndex("out", "1").digests()
		if proved := h.pullIndex("out", "proved").digests(); !slices.Equal(proved, together) {
			t.Errorf("%s: %q, with --verify %q", flags, together, proved)
		}
		for i, f := range all {
			s.done(append(args, h.push(f, "single", "1"), h.ref("single:out"))...)
			if alone := sha256Of(h.pull("single", "out").manifest); alone != together[i] {
				t.Errorf("%s: %s is %s, alone %s", flags, f.platform, together[i], alone)
			}
		}
	}
}
