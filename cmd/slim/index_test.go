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
	a := recipe{layers: "statement=x", platform: "unknown/unknown"}.build()
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

// notes are those of the JSON report.
func (s *sandbox) notes(args ...string) []string {
	s.t.Helper()
	var r struct{ Notes []string }
	o := s.done(append([]string{"squash", "--dry-run", "--report", "-"}, args...)...)
	if err := json.Unmarshal([]byte(o.out), &r); err != nil {
		s.t.Fatal(err)
	}
	return r.Notes
}

func TestIndexOfOneImage(t *testing.T) {
	app := recipe{layers: appLayers}.build()
	beside, entry := attestation(app)
	index := indexOf(app.platformEntry(), entry)
	for _, from := range []string{"registry", "oci", "oci-archive", "stdin"} {
		t.Run(from, func(t *testing.T) {
			s, h := newSandbox(t), newHub(t)
			fs := layoutOf(indexOf(fmt.Sprintf(`{"mediaType":%q,"digest":%q,"size":%d,%s}`, types.OCIImageIndex, sha256Of(index), len(index), named("1"))), app, beside)
			fs.add(blobName(sha256Of(index)), index)
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

	s.fails(exitUsage, []string{"images for several platforms: linux/amd64, linux/arm64/v8\n", "slim: hint: select one with --platform"},
		"squash", source, h.ref("app:slim"))
	h.wantNone("app", "slim")
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

	// The base is taken for the platform of the image.
	base := recipe{layers: baseLayers}.build()
	armBase := recipe{layers: baseLayers, platform: "linux/arm64/v8"}.build()
	baseRef := h.pushIndex(indexOf(base.platformEntry(), armBase.platformEntry()), "base", "1", base, armBase)
	s.done("squash", "--base", baseRef, "--platform", "linux/arm64", source, h.ref("app:above"))
	got := h.pull("app", "above")
	got.wantLayers(t, baseLayers, "arm=1 "+aboveBase)
	if !strings.Contains(string(got.manifest), `base.digest":"`+sha256Of(armBase.manifest)) {
		t.Errorf("the base is not the one for arm64:\n%s", got.manifest)
	}
}

func TestWindowsBesideLinux(t *testing.T) {
	s, h := newSandbox(t), newHub(t)
	app := recipe{layers: appLayers}.build()
	win := recipe{layers: "Files/ Files/x=1", platform: "windows/amd64"}.build()
	beside, entry := attestation(app)
	source := h.pushIndex(indexOf(app.platformEntry(), win.platformEntry(), entry), "app", "1", app, win, beside)
	notes := s.notes(source, h.ref("app:slim"))
	for _, want := range []string{`the image for "windows/amd64" was left out`, "1 attestation manifests beside the image were left out"} {
		if !slices.Contains(notes, want) {
			t.Errorf("no note %q in %q", want, notes)
		}
	}
	o := s.done("squash", source, h.ref("app:slim"))
	s.wantTexts(o, "note: 1 attestation manifests", `note: the image for "windows/amd64"`)
	h.pull("app", "slim").wantLayers(t, squashed)
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
