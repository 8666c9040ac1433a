package main

import (
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-containerregistry/pkg/v1/types"
)

func TestReportReplacesDevice(t *testing.T) {
	s := newSandbox(t)
	recipe{layers: appLayers}.build().layout("1").save(s, "in")
	if err := syscall.Mkfifo("pipe", 0o600); err != nil {
		t.Fatal(err)
	}
	go func() {
		f, err := os.Open("pipe")
		if err == nil {
			buf := make([]byte, 1<<16)
			f.Read(buf)
		}
	}()
	s.done("squash", "--report", "pipe", "oci:in:1", "oci:out:1")
	if i, _ := os.Lstat("pipe"); i.Mode().IsRegular() {
		t.Error("the fifo was replaced by a file (with /dev/null as root: the device)")
	}
	s.write("real.json", []byte("x"))
	os.Symlink("real.json", "link.json")
	s.done("squash", "--report", "link.json", "oci:in:1", "oci:out:1")
	if i, _ := os.Lstat("link.json"); i.Mode().IsRegular() {
		t.Error("the symlink was replaced by a file")
	}
}

func TestReportFailsAfterWrite(t *testing.T) {
	s := newSandbox(t)
	recipe{layers: appLayers}.build().layout("1").save(s, "in")
	o := s.run("squash", "--report", "no/such/r.json", "oci:in:1", "docker-archive:out.tar")
	if _, err := os.Stat("out.tar"); err == nil && o.code != 0 {
		t.Errorf("exit %d, but the target was written", o.code)
	}
}

func TestReportOverSourceOrTarget(t *testing.T) {
	s := newSandbox(t)
	app := recipe{layers: appLayers}.build()
	s.write("in.tar", app.dockerArchive("a:1"))
	o := s.run("squash", "--report", "in.tar", "docker-archive:in.tar", "docker-archive:out.tar")
	if o.code != exitUsage {
		t.Errorf("source overwritten by report: exit %d", o.code)
	}
	s.write("in.tar", app.dockerArchive("a:1"))
	o = s.run("squash", "--report", "out.tar", "docker-archive:in.tar", "docker-archive:out.tar")
	if o.code != exitUsage {
		t.Errorf("target overwritten by report: exit %d, out %s", o.code, o.out)
	}
}

func TestDocker25UncompressedBaseNotShared(t *testing.T) {
	s, h := newSandbox(t), newHub(t)
	base := recipe{layers: baseLayers}.build() // gzip in registry
	h.push(base, "base", "1")
	app := recipe{layers: appLayers, compression: "none"}.build()
	s.wantCode(0, s.pipe(app.dockerArchive25("app:1"), "squash", "--base", h.ref("base:1"), "-", h.ref("app:slim")))
	got := h.pull("app", "slim")
	if string(got.layers[0]) != base.descriptors[0] {
		t.Errorf("kept layer %s\nbase %s", got.layers[0], base.descriptors[0])
	}
}

func TestNothingToDoBaseNotShared(t *testing.T) {
	s, h := newSandbox(t), newHub(t)
	base := recipe{layers: baseLayers, family: types.DockerManifestSchema2}.build()
	h.push(base, "base", "1")
	app := recipe{layers: baseLayers + " | etc/ etc/new=1"}.build()
	o := s.wantCode(0, s.pipe(app.dockerArchive("app:1"), "squash", "--base", h.ref("base:1"), "-", h.ref("app:slim")))
	got := h.pull("app", "slim")
	if string(got.layers[0]) != base.descriptors[0] {
		t.Errorf("kept layer %s\nbase %s\n%s", got.layers[0], base.descriptors[0], o.err)
	}
}

func TestNothingToDoUncompressedToRegistry(t *testing.T) {
	s, h := newSandbox(t), newHub(t)
	app := recipe{layers: "etc/ etc/new=1"}.build()
	s.wantCode(0, s.pipe(app.dockerArchive("app:1"), "squash", "-", h.ref("app:slim")))
	got := h.pull("app", "slim")
	if ts := got.layerTypes(t); ts[0] != string(types.DockerLayer) {
		t.Errorf("pushed %s", ts)
	}
}

func TestHistoryDropBaseIdempotence(t *testing.T) {
	s, h := newSandbox(t), newHub(t)
	hist := `[{"created_by":"1"},{"created_by":"ENV","empty_layer":true}`
	h.push(recipe{layers: baseLayers, history: hist + `]`}.build(), "base", "1")
	source := h.push(recipe{layers: appLayers, history: hist + `,{"created_by":"2"},{"created_by":"3"}]`}.build(), "app", "1")
	a := s.done("squash", "--history", "drop", "--base", h.ref("base:1"), source, h.ref("app:one"))
	b := s.done("squash", "--history", "drop", "--base", h.ref("base:1"), h.ref("app:one"), h.ref("app:two"))
	if a.out != b.out {
		t.Errorf("%s%s", a.out, b.out)
	}
}

func TestPlatformEscape(t *testing.T) {
	s := newSandbox(t)
	recipe{layers: appLayers, platform: "linux/amd64/\x1b[31mv"}.build().layout("1").save(s, "in")
	recipe{layers: appLayers, editConfig: func(c string) string { return strings.Replace(c, `"amd64"`, `"amd64\u001b[31m"`, 1) }}.build().layout("1").save(s, "in")
	s.done("squash", "oci:in:1", "oci:out:1")
}

func TestRegistryErrorEscape(t *testing.T) {
	s, h := newSandbox(t), newHub(t)
	h.setHook(func(w http.ResponseWriter, r *http.Request) bool {
		if strings.Contains(r.URL.Path, "/manifests/") {
			w.WriteHeader(404)
			w.Write([]byte(`{"errors":[{"code":"MANIFEST_UNKNOWN","message":"\u001b[31mhello"}]}`))
			return true
		}
		return false
	})
	s.fails(1, nil, "squash", h.ref("app:1"), "oci:out:1")
}

func TestBaseStdin(t *testing.T) {
	s := newSandbox(t)
	app := recipe{layers: appLayers}.build()
	o := s.pipe(app.dockerArchive("a:1"), "squash", "--base", "-", "-", "docker-archive:out.tar")
	if o.code != exitUsage {
		t.Errorf("exit %d: %s", o.code, o.err)
	}
}

func TestTargetMistakesAreFoundFirst(t *testing.T) {
	s := newSandbox(t)
	recipe{layers: appLayers}.build().layout("1").save(s, "in")
	o := s.run("squash", "oci:in:1", "oci:out@sha256:0000000000000000000000000000000000000000000000000000000000000000")
	if strings.Contains(o.err, "squashing") {
		t.Errorf("found after the work: %s", o.err)
	}
	o = s.run("squash", "--dry-run", "oci:in:1", "oci:out@sha256:0000000000000000000000000000000000000000000000000000000000000000")
	if o.code != exitUsage {
		t.Errorf("dry run: exit %d", o.code)
	}
	s.write("full/x", nil)
	o = s.run("squash", "oci:in:1", "oci:full:1")
	if strings.Contains(o.err, "squashing") {
		t.Errorf("found after the work: %s", o.err)
	}
	o = s.run("squash", "oci:in:1", "docker-archive:nodir/x.tar")
	if strings.Contains(o.err, "squashing") {
		t.Errorf("found after the work: %s", o.err)
	}
}

func TestTmpDirFile(t *testing.T) {
	s := newSandbox(t)
	recipe{layers: appLayers}.build().layout("1").save(s, "in")
	s.write("file", []byte("x"))
	o := s.run("squash", "--tmp-dir", "file", "oci:in:1", "oci:out:1")
	if o.code != exitUsage {
		t.Errorf("tmp-dir: exit %d %s", o.code, o.err)
	}
	for _, f := range []string{"--ca-file", "--authfile"} {
		h := newHub(t)
		o = s.run("squash", f, "none", h.ref("app:1"), "oci:out:1")
		if o.code != exitUsage {
			t.Errorf("%s: exit %d %s", f, o.code, o.err)
		}
	}
}

func TestNoArchitectureBase(t *testing.T) {
	s, h := newSandbox(t), newHub(t)
	strip := func(c string) string {
		return strings.Replace(c, `"os":"linux","architecture":"amd64",`, `"os":"linux",`, 1)
	}
	h.push(recipe{layers: baseLayers, editConfig: strip}.build(), "base", "1")
	src := h.push(recipe{layers: appLayers, editConfig: strip}.build(), "app", "1")
	o := s.run("squash", "--base", h.ref("base:1"), src, h.ref("app:slim"))
	if o.code != 0 {
		t.Errorf("exit %d %s", o.code, o.err)
	}
}

func TestVariantBase(t *testing.T) {
	s, h := newSandbox(t), newHub(t)
	h.push(recipe{layers: baseLayers}.build(), "base", "1")
	src := h.push(recipe{layers: appLayers, platform: "linux/amd64/v2"}.build(), "app", "1")
	o := s.run("squash", "--base", h.ref("base:1"), src, h.ref("app:slim"))
	if o.code != 0 {
		t.Errorf("exit %d %s", o.code, o.err)
	}
}

func TestPlatformSingleImage(t *testing.T) {
	s := newSandbox(t)
	recipe{layers: appLayers, editConfig: func(c string) string { return strings.Replace(c, `"os":"linux"`, `"os.version":"6.1","os":"linux"`, 1) }}.build().layout("1").save(s, "in")
	if r := s.reportOf("squash", "--dry-run", "oci:in:1", "oci:out:1"); r.Platforms[0].Platform != "linux/amd64" {
		t.Errorf("platform %q", r.Platforms[0].Platform)
	}
}

func TestHideWithUserPattern(t *testing.T) {
	s := newSandbox(t)
	recipe{layers: "etc/ etc/a=1"}.build().layout("1").save(s, "in")
	s.done("squash", "--base-layers", "1", "--base-junk", "hide", "--remove-path", "etc", "oci:in:1", "oci:out:1")
	s.layoutImage("out", "1").wantLayers(t, "etc/ etc/a=1", "✗etc")
}

func TestSameTag(t *testing.T) {
	s, h := newSandbox(t), newHub(t)
	source := h.push(recipe{layers: appLayers}.build(), "app", "1")
	if o := s.run("squash", source, source); o.code != exitUsage || !strings.Contains(o.err, "same tag") {
		t.Errorf("exit %d: %s", o.code, o.err)
	}
}

func TestTargetIsBase(t *testing.T) {
	s := newSandbox(t)
	s.write("base.tar", recipe{layers: baseLayers}.build().dockerArchive("b:1"))
	s.write("app.tar", recipe{layers: appLayers}.build().dockerArchive("a:1"))
	if o := s.run("squash", "--base", "docker-archive:base.tar", "docker-archive:app.tar", "docker-archive:base.tar"); o.code != exitUsage {
		t.Errorf("exit %d: %s", o.code, o.err)
	}
}

// TestZstdIsRefusedFirst is for a manifest family that has no type for zstd.
func TestZstdIsRefusedFirst(t *testing.T) {
	s, h := newSandbox(t), newHub(t)
	source := h.push(recipe{layers: appLayers, family: types.DockerManifestSchema2}.build(), "app", "1")
	if o := s.run("squash", "--compression", "zstd", source, h.ref("app:slim")); o.code != exitFailed || strings.Contains(o.err, "reading") {
		t.Errorf("exit %d: %s", o.code, o.err)
	}
}
