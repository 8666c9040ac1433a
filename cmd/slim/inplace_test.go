package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// TestInPlacePlatform keeps a tag from losing platforms.
func TestInPlacePlatform(t *testing.T) {
	s, h := newSandbox(t), newHub(t)
	amd := recipe{layers: appLayers}.build()
	arm := recipe{layers: appLayers + " | arm=1", platform: "linux/arm64"}.build()
	index := indexOf(amd.platformEntry(), arm.platformEntry())
	source := h.pushIndex(index, "app", "1", amd, arm)
	s.fails(exitUsage, []string{"--in-place with --platform would take linux/arm64 from the tag"}, "squash", "--in-place", "--platform", "linux/amd64", source, source)
	if got := h.pullIndex("app", "1"); string(got.raw) != string(index) {
		t.Errorf("the tag is now %s", got.raw)
	}
	o := s.done("squash", "--in-place", "--platform", "linux/amd64", "--platform", "linux/arm64", source, source)
	s.wantTexts(o, "note: the tag was "+sha256Of(index))
}

// TestLayoutOverItself has a source without a name, or with a digest, that is the entry
// which the target names.
func TestLayoutOverItself(t *testing.T) {
	s := newSandbox(t)
	app, other := recipe{layers: appLayers}.build(), recipe{layers: "other=1 | x=1"}.build()
	app.layout("1").save(s, "one")
	layoutOf(indexOf(app.entry(named("1")), other.entry(named("2"))), app, other).save(s, "two")
	for source, target := range map[string]string{
		"oci:one":                               "oci:one:1",
		"oci:./one":                             "oci:one:1",
		"oci:one@" + sha256Of(app.manifest):     "oci:one:1",
		"oci:two@" + sha256Of(app.manifest):     "oci:two:1",
		"oci:two/../one":                        "oci:one:1",
		"oci:./two@" + sha256Of(other.manifest): "oci:two:2",
	} {
		dir := strings.Split(target, ":")[1]
		before := s.read(filepath.Join(dir, "index.json"))
		s.fails(exitUsage, []string{"SOURCE and TARGET are the same: " + target, "slim: hint: "}, "squash", source, target)
		if after := s.read(filepath.Join(dir, "index.json")); after != before {
			t.Errorf("%s to %s: the index is now %s", source, target, after)
		}
	}
	s.done("squash", "oci:one", "oci:one:slim")
	s.layoutImage("one", "slim").wantLayers(t, squashed)
}

// engine is a Docker engine with one tag, as far as squash asks.
type engine struct {
	t  *testing.T
	mu sync.Mutex
	// archives are images as the engine saves them, by ID.
	archives map[string][]byte
	// tag is the ID of the image that is called app:1.
	tag string
	// loaded is called after an image was loaded.
	loaded func()
}

// startEngine makes an engine with an image be the one that slim asks.
func startEngine(t *testing.T, s *sandbox, f *fixture) *engine {
	t.Helper()
	l, err := net.Listen("unix", filepath.Join(s.streams, "engine"))
	if err != nil {
		t.Fatal(err)
	}
	e := &engine{t: t, archives: map[string][]byte{}, tag: sha256Of(f.config)}
	e.archives[e.tag] = f.dockerArchive("app:1")
	server := &httptest.Server{Listener: l, Config: &http.Server{Handler: e}}
	server.Start()
	t.Cleanup(server.Close)
	t.Setenv("DOCKER_HOST", "unix://"+l.Addr().String())
	return e
}

func (e *engine) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	e.mu.Lock()
	defer e.mu.Unlock()
	w.Header().Set("Api-Version", "1.41")
	name, what, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/v1.41/images/"), "/")
	id := name
	if !strings.HasPrefix(id, "sha256:") {
		id = e.tag
	}
	switch {
	case r.URL.Path == "/_ping":
	case name == "load":
		e.load(w, r)
	case what == "json":
		fmt.Fprintf(w, `{"Id":%q,"RepoTags":["app:1"],"Parent":""}`, id)
	case what == "get":
		w.Write(e.archives[id]) //nolint:errcheck // the client tells
	case what == "tag":
		if r.URL.Query().Get("repo") == "app" {
			e.tag = id
		}
		w.WriteHeader(http.StatusCreated)
	}
}

// tagged is the ID of the image that has the tag, and its archive.
func (e *engine) tagged() (id string, archive []byte) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.tag, e.archives[e.tag]
}

func (e *engine) load(w http.ResponseWriter, r *http.Request) {
	archive, err := io.ReadAll(r.Body)
	if err != nil {
		e.t.Error(err)
	}
	id := sha256Of(ofDockerArchive(e.t, archive).config)
	e.archives[id] = archive
	if e.loaded != nil {
		e.loaded()
	}
	json.NewEncoder(w).Encode(map[string]string{"stream": "Loaded image ID: " + id + "\n"}) //nolint:errcheck // the client tells
}

func TestInPlaceInEngine(t *testing.T) {
	s := newSandbox(t)
	app := recipe{layers: appLayers}.build()
	e := startEngine(t, s, app)
	o := s.done("squash", "--in-place", "docker-daemon:app:1", "docker-daemon:app:1")
	s.wantTexts(o, "note: the tag was "+sha256Of(app.config))
	_, archive := e.tagged()
	ofDockerArchive(t, archive).wantLayers(t, squashed)
}

// TestMovedTagOfEngine gives another image the tag while the first is worked on.
func TestMovedTagOfEngine(t *testing.T) {
	s := newSandbox(t)
	other := recipe{layers: "other=1"}.build()
	e := startEngine(t, s, recipe{layers: appLayers}.build())
	e.loaded = func() { e.tag = sha256Of(other.config) }
	s.fails(exitFailed, []string{"the tag moved"}, "squash", "--in-place", "docker-daemon:app:1", "docker-daemon:app:1")
	if id, _ := e.tagged(); id != sha256Of(other.config) {
		t.Errorf("the tag that moved was overwritten by %s", id)
	}
}
