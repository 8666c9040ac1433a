package image

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
)

// The steps of an upload as fakeServer.requests has them.
const (
	headStep  = "HEAD app/blobs/"
	postStep  = "POST app/upload"
	patchStep = "PATCH app/upload"
	askStep   = "GET app/upload"
	putStep   = "PUT app/upload"
)

// TestUpload has an upload meet everything that it gets over.
func TestUpload(t *testing.T) {
	const size = 5 << 20
	half := func(from int) string { return fmt.Sprintf("%s %d-%d", patchStep, from, size-1) }
	patch := func(n int, do hook) hook { return once(n, http.MethodPatch, "/uploads/", do) }
	for _, tc := range []struct {
		name   string
		hook   func(*fakeServer) hook
		want   []string
		wait   []int
		opened int
	}{
		{"at once", nil, []string{headStep, postStep, patchStep, putStep}, nil, 1},
		{"broken in the middle", func(s *fakeServer) hook { return patch(1, s.half(breaks)) },
			[]string{headStep, postStep, patchStep, headStep, askStep, half(size / 2), putStep}, []int{1}, 2},
		{"500 in the middle", func(s *fakeServer) hook { return patch(1, s.half(says(500))) },
			[]string{headStep, postStep, patchStep, headStep, askStep, half(size / 2), putStep}, []int{1}, 2},
		{"429 with a wait", func(s *fakeServer) hook { return patch(1, s.half(says(429, "Retry-After", "42"))) },
			[]string{headStep, postStep, patchStep, headStep, askStep, half(size / 2), putStep}, []int{42}, 2},
		{"broken, no status", func(s *fakeServer) hook {
			return anyOf(patch(1, s.half(breaks)), once(1, http.MethodGet, "/uploads/", says(405)))
		}, []string{headStep, postStep, patchStep, headStep, askStep, postStep, patchStep, putStep}, []int{1}, 2},
		{"broken, status not available", func(s *fakeServer) hook {
			return anyOf(patch(1, s.half(breaks)), once(1, http.MethodGet, "/uploads/", says(503)))
		}, []string{headStep, postStep, patchStep, headStep, askStep, headStep, askStep, half(size / 2), putStep}, []int{1, 3}, 2},
		{"broken, nothing was taken", func(*fakeServer) hook { return patch(1, says(502)) },
			[]string{headStep, postStep, patchStep, headStep, askStep, postStep, patchStep, putStep}, []int{1}, 2},
		{"broken, forgotten", func(s *fakeServer) hook {
			return anyOf(patch(1, s.half(breaks)), patch(1, says(404)))
		}, []string{headStep, postStep, patchStep, headStep, askStep, half(size / 2), headStep, postStep, patchStep, putStep}, []int{1, 1}, 3},
		{"broken, no chunks", func(s *fakeServer) hook {
			return anyOf(patch(1, s.half(breaks)), patch(1, says(400)))
		}, []string{headStep, postStep, patchStep, headStep, askStep, half(size / 2), headStep, postStep, patchStep, putStep}, []int{1, 1}, 3},
		{"416", func(s *fakeServer) hook { return patch(1, s.half(says(416))) },
			[]string{headStep, postStep, patchStep, headStep, askStep, half(size / 2), putStep}, nil, 2},
		{"413", func(*fakeServer) hook { return between(1, 2, http.MethodPatch, "/uploads/", says(413)) },
			[]string{headStep, postStep, patchStep, headStep, askStep, postStep, fmt.Sprintf("%s 0-%d", patchStep, size/2-1),
				headStep, askStep, postStep, patchStep + " 0-1310719", patchStep + " 1310720-2621439", patchStep + " 2621440-3932159", patchStep + " 3932160-5242879", putStep}, nil, 3},
		{"PUT broken", func(*fakeServer) hook { return once(1, http.MethodPut, "/uploads/", says(500)) },
			[]string{headStep, postStep, patchStep, putStep, headStep, askStep, putStep}, []int{1}, 1},
		{"PUT after which the blob is there", func(s *fakeServer) hook {
			return once(1, http.MethodPut, "/uploads/", func(http.ResponseWriter, *http.Request) bool {
				s.put("app", noise(size))
				panic(http.ErrAbortHandler)
			})
		}, []string{headStep, postStep, patchStep, putStep, headStep}, []int{1}, 1},
		{"PUT of what was lost", func(*fakeServer) hook { return once(1, http.MethodPut, "/uploads/", says(404)) },
			[]string{headStep, postStep, patchStep, putStep, headStep, postStep, patchStep, putStep}, []int{1}, 2},
		{"somebody else is faster", func(s *fakeServer) hook {
			return patch(1, func(http.ResponseWriter, *http.Request) bool {
				s.put("app", noise(size))
				panic(http.ErrAbortHandler)
			})
		}, []string{headStep, postStep, patchStep, headStep}, []int{1}, 1},
		{"HEAD refused", func(*fakeServer) hook { return once(1, http.MethodHead, "/blobs/", says(405)) },
			[]string{headStep, postStep, patchStep, putStep}, nil, 1},
		{"POST refused for a while", func(*fakeServer) hook { return between(1, 2, http.MethodPost, "/uploads/", says(500)) },
			[]string{headStep, postStep, headStep, postStep, headStep, postStep, patchStep, putStep}, []int{1, 3}, 1},
		{"HEAD refused by the store behind", func(s *fakeServer) hook {
			return once(1, http.MethodHead, "/blobs/", func(w http.ResponseWriter, r *http.Request) bool {
				_, port, _ := strings.Cut(s.host, ":")
				http.Redirect(w, r, "http://localhost:"+port+"/v2/store/forbidden", http.StatusTemporaryRedirect)
				return true
			})
		}, []string{headStep, "HEAD store/forbidden", postStep, patchStep, putStep}, nil, 1},
		{"part of a chunk taken", func(s *fakeServer) hook {
			return anyOf(patch(1, s.half(breaks)), patch(1, s.half(says(202, "Range", "0-3932159"))))
		}, []string{headStep, postStep, patchStep, headStep, askStep, half(size / 2), half(3932160), putStep}, []int{1}, 3},
		{"least chunk", func(s *fakeServer) hook {
			return anyOf(patch(1, s.half(breaks)), once(1, http.MethodPost, "/uploads/", func(w http.ResponseWriter, _ *http.Request) bool {
				w.Header().Set("OCI-Chunk-Min-Length", "99999999")
				return false
			}))
		}, []string{headStep, postStep, patchStep, headStep, askStep, half(size / 2), putStep}, []int{1}, 2},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := newServer(t, nil)
			if tc.hook != nil {
				s.hook = tc.hook(s)
			}
			data := noise(size)
			l, opened := layerOf(data)
			o, waits := quick()
			if err := s.client("app", o).putBlob(t.Context(), l); err != nil {
				t.Fatal(err)
			}
			if !s.has("app", data) {
				t.Error("the blob is not there")
			}
			wantList(t, s.requests(), tc.want...)
			waits.want(t, tc.wait...)
			if *opened != tc.opened {
				t.Errorf("the layer was opened %d times, want %d", *opened, tc.opened)
			}
		})
	}
}

// TestUploadStalls has a registry that takes no further byte.
func TestUploadStalls(t *testing.T) {
	data := noise(40 << 20) // more than fits into the buffers of a connection
	stalled, release := make(chan struct{}), make(chan struct{})
	s := newServer(t, nil)
	t.Cleanup(func() { close(release) })
	s.hook = once(1, http.MethodPatch, "/uploads/", s.half(func(http.ResponseWriter, *http.Request) bool {
		close(stalled)
		<-release
		panic(http.ErrAbortHandler)
	}))
	o, waits := quick()
	clock := newAlarms()
	o.pacing.alarm = clock.new
	go func() {
		<-stalled
		clock.ring()
	}()
	l, _ := layerOf(data)
	if err := s.client("app", o).putBlob(t.Context(), l); err != nil || !s.has("app", data) {
		t.Errorf("error %v", err)
	}
	wantList(t, s.requests(), headStep, postStep, patchStep, headStep, askStep,
		patchStep+" 20971520-37748735", patchStep+" 37748736-41943039", putStep)
	waits.want(t, 1)
}

func TestUploadEmpty(t *testing.T) {
	s := newServer(t, nil)
	o, _ := quick()
	l, _ := layerOf(nil)
	if err := s.client("app", o).putBlob(t.Context(), l); err != nil || !s.has("app", nil) {
		t.Errorf("error %v", err)
	}
	wantList(t, s.requests(), headStep, postStep, putStep)
	l.Open = opens([]byte("x"))
	wantError(t, newServer(t, nil).client("app", o).putBlob(t.Context(), l), "is longer than its 0 bytes", false)
}

// TestUploadOfRegistry uses the registry of the library, which tells no status.
func TestUploadOfRegistry(t *testing.T) {
	r := newRegistry(t)
	data := noise(100_000)
	for i, content := range [][]byte{data, nil, data[:1]} {
		c, err := newClient(repository(t, r.host+"/app"), "push,pull", Options{})
		if err != nil {
			t.Fatal(err)
		}
		l, _ := layerOf(content)
		if err := c.putBlob(t.Context(), l); err != nil {
			t.Fatal(err)
		}
		if found, err := c.hasBlob(t.Context(), l.Digest); err != nil || !found {
			t.Errorf("blob %d is not there: %v", i, err)
		}
	}
}

// TestUploadFails ends uploads that nothing mends.
func TestUploadFails(t *testing.T) {
	data := noise(600_000)
	always := func(method string, status int, header ...string) hook {
		return between(1, 999, method, "/uploads/", says(status, header...))
	}
	for _, tc := range []struct {
		name, err string
		hook      hook
		content   []byte
		patches   int // below 0: the connection may break before the request is seen
	}{
		{"other content", "has other content", nil, append(noise(599_999), 0), -1},
		{"short content", "ends after 599000 of its 600000 bytes", nil, data[:599_000], -1},
		{"long content", "is longer than its 600000 bytes", nil, noise(600_001), -1},
		{"403", "403 Forbidden", always(http.MethodPatch, 403), data, 1},
		{"too small to be split", "413 Request Entity Too Large", always(http.MethodPatch, 413), data, 1},
		{"500", "500 Internal Server Error", always(http.MethodPatch, 500), data, 4},
		{"416", "416 Requested Range Not Satisfiable", always(http.MethodPatch, 416), data, 8},
		{"404", "404 Not Found", always(http.MethodPatch, 404), data, 4},
		{"long wait", "asks to wait for 10m0s, and more than 2m0s is too long", always(http.MethodPatch, 429, "Retry-After", "600"), data, 1},
		{"from place to place", "from place to place", always(http.MethodPatch, 307, "Location", "/v2/app/blobs/uploads/1"), data, maxTurns + 1},
		{"no location", "gave no location", always(http.MethodPost, 202), data, 0},
		{"location that is none", "no URL", always(http.MethodPost, 202, "Location", "%zz"), data, 0},
		{"location inside", "address of an internal network", always(http.MethodPost, 202, "Location", "http://169.254.169.254/latest"), data, 0},
		{"end refused", "400 Bad Request", always(http.MethodPut, 400), data, 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := newServer(t, tc.hook)
			l, _ := layerOf(data)
			l.Open = opens(tc.content)
			o, _ := quick()
			err := s.client("app", o).putBlob(t.Context(), l)
			wantError(t, err, tc.err, false)
			requests := s.requests()
			if n := count(requests, "PATCH"); tc.patches >= 0 && n != tc.patches {
				t.Errorf("%d times content was sent, want %d", n, tc.patches)
			}
			if n := count(requests, "PUT"); n > 0 && tc.name != "end refused" {
				t.Errorf("the blob was completed %d times", n)
			}
		})
	}
}

// TestUploadSourceFails does not try again when it is the layer that cannot be
// read.
func TestUploadSourceFails(t *testing.T) {
	broken := errors.New("broken disk")
	l, _ := layerOf(noise(1000))
	l.Open = func(context.Context) (io.ReadCloser, error) {
		return io.NopCloser(io.MultiReader(bytes.NewReader(noise(1000)[:500]), &errReader{broken})), nil
	}
	s := newServer(t, nil)
	o, waits := quick()
	if err := s.client("app", o).putBlob(t.Context(), l); !errors.Is(err, broken) {
		t.Errorf("error %v", err)
	}
	l.Open = func(context.Context) (io.ReadCloser, error) { return nil, broken }
	if err := s.client("app", o).putBlob(t.Context(), l); !errors.Is(err, broken) {
		t.Errorf("error %v", err)
	}
	waits.want(t)
}

// errReader fails.
type errReader struct{ err error }

// Read implements io.Reader.
func (r *errReader) Read([]byte) (int, error) { return 0, r.err }

// TestMount takes a blob from another repository where that is allowed, and
// uploads it else.
func TestMount(t *testing.T) {
	mount := func(do hook) hook {
		return func(w http.ResponseWriter, r *http.Request) bool { return r.URL.Query().Has("mount") && do(w, r) }
	}
	data := noise(1000)
	const from, other = "POST app/upload from from", "POST app/upload from other"
	for _, tc := range []struct {
		name string
		hook hook
		want []string
	}{
		{"201", mount(says(201)), []string{headStep, from}},
		{"202", nil, []string{headStep, from, patchStep, putStep}},
		{"403", mount(says(403)), []string{headStep, from, other, postStep, patchStep, putStep}},
		{"401", mount(says(401)), []string{headStep, from, other, postStep, patchStep, putStep}},
		{"404 of the first", once(1, http.MethodPost, "/uploads/", says(404)), []string{headStep, from, other, patchStep, putStep}},
		{"405", mount(says(405)), []string{headStep, from, other, postStep, patchStep, putStep}},
		{"500 once", once(1, http.MethodPost, "/uploads/", says(500)), []string{headStep, from, headStep, from, patchStep, putStep}},
		{"500", mount(says(500)), []string{headStep, from, headStep, from, other, postStep, patchStep, putStep}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := newServer(t, tc.hook)
			l, opened := layerOf(data)
			l.origins = []registryBlob{{repository(t, "elsewhere.example/app")}, {s.repo("app")}, {s.repo("from")}, {s.repo("other")}}
			o, _ := quick()
			c := s.client("app", o, mountSources([]Layer{l}, s.repo("app"))...)
			if err := c.putBlob(t.Context(), l); err != nil {
				t.Fatal(err)
			}
			wantList(t, s.requests(), tc.want...)
			if mounted := tc.name == "201"; mounted != (*opened == 0) || mounted == s.has("app", data) {
				t.Errorf("the layer was opened %d times", *opened)
			}
		})
	}
}

// TestUploadLocations keeps a location's host and query, and sends no
// credentials to another host.
func TestUploadLocations(t *testing.T) {
	var mu sync.Mutex
	var seen []string
	stored := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // only the requests count
		mu.Lock()
		seen = append(seen, r.Method+" "+r.URL.RequestURI()+" "+r.Header.Get("Authorization"))
		mu.Unlock()
		status := http.StatusAccepted
		if r.Method == http.MethodPut {
			status = http.StatusCreated
		}
		w.WriteHeader(status)
	}))
	t.Cleanup(stored.Close)
	elsewhere := strings.Replace(stored.URL, "127.0.0.1", "localhost", 1) + "/store?b=2&a=%2F&sig=s"
	s := newServer(t, anyOf(basic("user", "secret"), once(1, http.MethodPost, "/uploads/", says(202, "Location", elsewhere))))
	o, _ := quick()
	o.AuthFile = authOf(t, s.host, "user", "secret")
	l, _ := layerOf(noise(1000))
	if err := s.client("app", o).putBlob(t.Context(), l); err != nil {
		t.Fatal(err)
	}
	want := []string{"PATCH /store?b=2&a=%2F&sig=s ", "PUT /store?b=2&a=%2F&sig=s&digest=" + strings.ReplaceAll(l.Digest.String(), ":", "%3A") + " "}
	if !slices.Equal(seen, want) {
		t.Errorf("requests %q, want %q", seen, want)
	}
}

// TestUploadRedirected follows a redirect of the content.
func TestUploadRedirected(t *testing.T) {
	data := noise(1000)
	s := newServer(t, once(1, http.MethodPatch, "/uploads/", func(w http.ResponseWriter, r *http.Request) bool {
		http.Redirect(w, r, r.URL.RequestURI(), http.StatusTemporaryRedirect)
		return true
	}))
	o, _ := quick()
	o.Retries = -1
	l, _ := layerOf(data)
	if err := s.client("app", o).putBlob(t.Context(), l); err != nil || !s.has("app", data) {
		t.Errorf("error %v", err)
	}
	wantList(t, s.requests(), headStep, postStep, patchStep, patchStep, putStep)
}

func TestUploadAhead(t *testing.T) {
	s := newServer(t, nil)
	f := newFixture("linux/amd64", asGzip, "a", "b", "a")
	img := f.image(t)
	layers := append(slices.Clone(img.Layers), Layer{Open: never(t)}, Layer{Digest: digestOf(nil), Foreign: true, Open: never(t)})
	if err := Upload(t.Context(), s.ref("app:1"), layers, Options{}); err != nil {
		t.Fatal(err)
	}
	if n := count(s.requests(), putStep); n != 3 {
		t.Errorf("%d blobs were uploaded, want 3", n)
	}
	for i := range img.Layers {
		img.Layers[i].Open = never(t)
	}
	if _, err := Write(t.Context(), s.ref("app:1"), img, Options{}); err != nil {
		t.Fatal(err)
	}
	for _, target := range []Ref{{Transport: OCI, Path: "nowhere"}, s.ref("app")} {
		if err := Upload(t.Context(), target, []Layer{{Foreign: true}}, Options{}); err != nil {
			t.Errorf("%s: %v", target, err)
		}
	}
	denied := newServer(t, between(1, 9, http.MethodPost, "/uploads/", says(403)))
	err := Upload(t.Context(), denied.ref("app:1"), f.image(t).Layers, Options{})
	wantError(t, err, "writing "+denied.host, true)
	wantHint(t, err, "docker login")
}

func TestParseUploadRange(t *testing.T) {
	for s, want := range map[string]int64{
		"0-9": 10, "bytes=0-9": 10, "0-0": -1, "": -1, "5-9": -1, "0-": -1, "0--1": -1, "0-9223372036854775807": -1, "0-x": -1,
	} {
		n, ok := parseUploadRange(s)
		if !ok {
			n = -1
		}
		if n != want {
			t.Errorf("%q: %d, want %d", s, n, want)
		}
	}
}

// TestPushDocument pushes an index of an index: children before what names them,
// each once, and none that is there.
func TestPushDocument(t *testing.T) {
	s := newServer(t, nil)
	one, two := newFixture("linux/amd64", asGzip, "a", "b"), newFixture("linux/arm64", asGzip, "b", "a")
	there := newFixture("linux/386", asGzip, "a", "b")
	s.putDoc("app", string(there.mediaType), there.manifest)
	child := func(f fixture) *document { return f.image(t).document() }
	inner := &document{mediaType: "application/vnd.oci.image.index.v1+json", raw: indexOf(two.entry()), children: []*document{child(two)}}
	inner.digest = digestOf(inner.raw)
	root := &document{children: []*document{child(one), inner, child(there), child(one)}}
	o, _ := quick()
	if err := pushDocument(t.Context(), s.client("app", o), root, 1); err != nil {
		t.Fatal(err)
	}
	requests := s.requests()
	var manifests []string
	for _, r := range requests {
		if strings.Contains(r, "manifests") {
			manifests = append(manifests, r)
		}
	}
	const head, put = "HEAD app/manifests/", "PUT app/manifests/"
	wantList(t, manifests, head, put, head, put, head, put, head)
	if n := count(requests, putStep); n != 2+3+2 {
		t.Errorf("%d blobs were uploaded", n)
	}
	if first := slices.Index(requests, head); slices.Contains(requests[first:], putStep) {
		t.Error("a manifest came before a blob")
	}
	for _, d := range []*document{child(one), child(two), inner} {
		if got := s.docs["app:"+d.digest.String()]; !bytes.Equal(got, d.raw) || s.types["app:"+d.digest.String()] != string(d.mediaType) {
			t.Errorf("%s is stored as %q", d.digest, got)
		}
	}
}

// TestMountSources names each other repository of the registry once, in order.
func TestMountSources(t *testing.T) {
	r := func(s string) registryBlob { return registryBlob{repository(t, s)} }
	layers := []Layer{
		{origins: []registryBlob{r("a.example/z"), r("b.example/x")}},
		{origins: []registryBlob{r("a.example/to"), r("a.example/b"), r("a.example/z")}}, {},
	}
	want := []name.Repository{repository(t, "a.example/b"), repository(t, "a.example/z")}
	if got := mountSources(layers, repository(t, "a.example/to")); !slices.Equal(got, want) {
		t.Errorf("sources %s, want %s", got, want)
	}
}
