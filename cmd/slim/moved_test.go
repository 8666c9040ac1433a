package main

import (
	"net/http"
	"strings"
	"testing"
)

// blobRequests counts requests of a method about a blob, by digest in path or query.
type blobRequests map[string]int

// watch counts the requests of a hub until the test ends.
func (h *hub) watch() blobRequests {
	seen := blobRequests{}
	h.setHook(func(_ http.ResponseWriter, r *http.Request) bool {
		h.mu.Lock()
		defer h.mu.Unlock()
		q := r.URL.Query()
		digest := q.Get("digest")
		if i := strings.LastIndex(r.URL.Path, "sha256:"); i >= 0 {
			digest = r.URL.Path[i:]
		}
		method := r.Method
		if m := q.Get("mount"); m != "" {
			method, digest = "mount", m
		}
		seen[method+" "+digest]++
		return false
	})
	return seen
}

// TestBytesNotMoved squashes two images above one base into another repository: what
// is in the base is read once, and nothing of it is uploaded.
func TestBytesNotMoved(t *testing.T) {
	s, h := newSandbox(t), newHub(t)
	base := recipe{layers: baseLayers + " | base=2"}.build()
	one := recipe{layers: baseLayers + " | base=2 | one=1 | x=1"}.build()
	two := recipe{layers: baseLayers + " | base=2 | two=2 | ✗base"}.build()
	baseRef := h.push(base, "base", "1")
	seen := h.watch()
	source := h.push(one, "app", "1")
	clear(seen)
	s.done("squash", "--base", baseRef, source, h.ref("out:1"))
	for _, b := range base.blobs {
		d := sha256Of(b)
		if seen["GET "+d] != 1 || seen["PUT "+d] > 0 || seen["mount "+d]+seen["HEAD "+d] != 1 {
			t.Errorf("first image: base layer %s: %d GET, %d PUT, %d found or mounted", d, seen["GET "+d], seen["PUT "+d], seen["mount "+d]+seen["HEAD "+d])
		}
	}
	source = h.push(two, "app", "2")
	clear(seen)
	r := s.reportOf("squash", "-v", "--base", baseRef, source, h.ref("out:2"))
	for _, b := range base.blobs {
		d := sha256Of(b)
		if seen["GET "+d] > 0 || seen["PUT "+d] > 0 {
			t.Errorf("second image: base layer %s: %d GET, %d PUT", d, seen["GET "+d], seen["PUT "+d])
		}
	}
	if l := r.Platforms[0].Layers; !l[0].Cached || !l[1].Cached || l[2].Cached {
		t.Errorf("layers %+v", l)
	}
	h.pull("out", "2").wantLayers(t, append(strings.Split(baseLayers+" | base=2", " | "), "✗base two=2")...)

	// --no-cache and --verify read the base anew.
	for _, flag := range []string{"--no-cache", "--verify"} {
		clear(seen)
		s.done("squash", flag, "--base", baseRef, source, h.ref("out"+strings.Trim(flag, "-")+":2"))
		if d := sha256Of(base.blobs[0]); seen["GET "+d] == 0 {
			t.Errorf("%s: the base layer was not read", flag)
		}
	}
}

// TestBytesOfArchive takes the kept layers of an archive from the base, so that they
// are shared.
func TestBytesOfArchive(t *testing.T) {
	s, h := newSandbox(t), newHub(t)
	base := recipe{layers: baseLayers}.build()
	app := recipe{layers: appLayers, compression: "none"}.build()
	s.write("app.tar", app.dockerArchive("app:1"))
	baseRef := h.push(base, "base", "1")
	seen := h.watch()
	s.done("squash", "--base", baseRef, "docker-archive:app.tar", h.ref("out:1"))
	d := sha256Of(base.blobs[0])
	if got := h.pull("out", "1"); string(got.blobs[0]) != string(base.blobs[0]) || seen["PUT "+d] > 0 || seen["mount "+d]+seen["HEAD "+d] != 1 {
		t.Errorf("the base layer is not the base's, or was moved: %d PUT, %d mounts", seen["PUT "+d], seen["mount "+d])
	}
}
