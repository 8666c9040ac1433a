package image

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

// hook sees a request before the server does; it returns true when it has
// answered it.
type hook func(w http.ResponseWriter, r *http.Request) bool

// fakeServer is a registry that knows what the specification says of blobs:
// ranges, mounts, chunks and the status of an upload.
type fakeServer struct {
	t    *testing.T
	host string
	// hook is set before the first request.
	hook hook

	mu      sync.Mutex
	seen    []string
	blobs   map[string][]byte // by REPO@DIGEST
	docs    map[string][]byte // manifests by REPO:REFERENCE
	types   map[string]string
	uploads map[string][]byte
}

func newServer(t *testing.T, h hook) *fakeServer {
	t.Helper()
	s := &fakeServer{t: t, hook: h, blobs: map[string][]byte{}, docs: map[string][]byte{}, types: map[string]string{}, uploads: map[string][]byte{}}
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	s.host = strings.TrimPrefix(server.URL, "http://")
	return s
}

// ServeHTTP implements http.Handler.
func (s *fakeServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	entry := r.Method + " " + r.URL.RequestURI()
	for _, name := range []string{"Range", "Content-Range"} {
		if v := r.Header.Get(name); v != "" {
			entry += " " + v
		}
	}
	s.mu.Lock()
	s.seen = append(s.seen, entry)
	s.mu.Unlock()
	if s.hook != nil && s.hook(w, r) {
		return
	}
	parts := strings.SplitN(strings.TrimPrefix(r.URL.Path, "/v2/"), "/", 4)
	switch {
	case r.URL.Path == "/v2/":
	case r.URL.Path == "/v2/store/forbidden":
		w.WriteHeader(http.StatusForbidden)
	case len(parts) == 4 && parts[1] == "blobs" && parts[2] == "uploads":
		s.upload(w, r, parts[0], parts[3])
	case len(parts) == 3 && parts[1] == "blobs":
		s.blob(w, r, parts[0]+"@"+parts[2])
	case len(parts) == 3 && parts[1] == "manifests":
		s.manifest(w, r, parts[0]+":"+parts[2])
	default:
		w.WriteHeader(http.StatusNotFound)
	}
}

func (s *fakeServer) blob(w http.ResponseWriter, r *http.Request, key string) {
	s.mu.Lock()
	data, ok := s.blobs[key]
	s.mu.Unlock()
	if !ok {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(data))
}

func (s *fakeServer) manifest(w http.ResponseWriter, r *http.Request, key string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r.Method == http.MethodPut {
		s.docs[key], _ = io.ReadAll(r.Body)
		s.types[key] = r.Header.Get("Content-Type")
		w.WriteHeader(http.StatusCreated)
		return
	}
	data, ok := s.docs[key]
	if !ok {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	w.Header().Set("Content-Type", s.types[key])
	w.Header().Set("Docker-Content-Digest", digestOf(data).String())
	_, _ = w.Write(data)
}

func (s *fakeServer) upload(w http.ResponseWriter, r *http.Request, repo, id string) {
	if id == "" {
		id = strconv.Itoa(rand.Int())
		s.mu.Lock()
		s.uploads[id] = nil
		s.mu.Unlock()
		s.accept(w, repo, id, http.StatusAccepted)
		return
	}
	s.mu.Lock()
	had, ok := s.uploads[id]
	s.mu.Unlock()
	switch {
	case !ok || r.URL.Query().Get("_state") != "a b":
		w.WriteHeader(http.StatusNotFound)
	case r.Method == http.MethodGet:
		s.accept(w, repo, id, http.StatusNoContent)
	case r.Method == http.MethodPatch:
		if span := r.Header.Get("Content-Range"); span != "" && !strings.HasPrefix(span, fmt.Sprintf("%d-", len(had))) {
			w.WriteHeader(http.StatusRequestedRangeNotSatisfiable)
			return
		}
		data, _ := io.ReadAll(r.Body) // what came before a break counts
		s.mu.Lock()
		s.uploads[id] = append(had, data...)
		s.mu.Unlock()
		s.accept(w, repo, id, http.StatusAccepted)
	case r.Method == http.MethodDelete:
		s.mu.Lock()
		delete(s.uploads, id)
		s.mu.Unlock()
		w.WriteHeader(http.StatusNoContent)
	case r.Method == http.MethodPut:
		if digest := r.URL.Query().Get("digest"); digestOf(had).String() != digest {
			w.WriteHeader(http.StatusBadRequest)
			_, _ = io.WriteString(w, `{"errors":[{"code":"DIGEST_INVALID","message":"other content"}]}`)
			return
		}
		s.put(repo, had)
		w.WriteHeader(http.StatusCreated)
	}
}

// accept answers with where an upload goes on: a relative location with a query.
func (s *fakeServer) accept(w http.ResponseWriter, repo, id string, status int) {
	s.mu.Lock()
	n := len(s.uploads[id])
	s.mu.Unlock()
	w.Header().Set("Location", "/v2/"+repo+"/blobs/uploads/"+id+"?_state=a%20b")
	w.Header().Set("Range", fmt.Sprintf("0-%d", max(n-1, 0)))
	w.WriteHeader(status)
}

// put stores a blob.
func (s *fakeServer) put(repo string, data []byte) v1.Hash {
	s.mu.Lock()
	defer s.mu.Unlock()
	h := digestOf(data)
	s.blobs[repo+"@"+h.String()] = data
	return h
}

// putDoc stores a manifest under its digest and some tags.
func (s *fakeServer) putDoc(repo, mediaType string, data []byte, tags ...string) v1.Hash {
	s.mu.Lock()
	defer s.mu.Unlock()
	h := digestOf(data)
	for _, reference := range append(tags, h.String()) {
		s.docs[repo+":"+reference], s.types[repo+":"+reference] = data, mediaType
	}
	return h
}

// has tells whether the repository has exactly that blob.
func (s *fakeServer) has(repo string, data []byte) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	got, ok := s.blobs[repo+"@"+digestOf(data).String()]
	return ok && bytes.Equal(got, data)
}

// requests are those since the last call without the ping, each with the
// location of an upload shortened.
func (s *fakeServer) requests() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []string
	for _, entry := range s.seen {
		method, rest, _ := strings.Cut(entry, " ")
		uri, span, _ := strings.Cut(rest, " ")
		if uri == "/v2/" {
			continue
		}
		u, err := url.Parse(uri)
		if err != nil {
			s.t.Fatal(err)
		}
		short := strings.TrimPrefix(u.Path, "/v2/")
		if i := strings.Index(short, "/blobs/uploads/"); i >= 0 {
			short = short[:i] + "/upload"
		} else if i := strings.Index(short, "@"); i >= 0 {
			short = short[:i]
		}
		short = strings.Split(short, "sha256:")[0]
		if from := u.Query().Get("from"); from != "" {
			short += " from " + from
		}
		list = append(list, strings.TrimSpace(method+" "+short+" "+span))
	}
	s.seen = nil
	return list
}

func (s *fakeServer) repo(name string) name.Repository { return repository(s.t, s.host+"/"+name) }

func (s *fakeServer) ref(name string) Ref { return Ref{Transport: Registry, Name: s.host + "/" + name} }

// client is one for pushing into a repository.
func (s *fakeServer) client(repo string, o Options, sources ...name.Repository) *client {
	s.t.Helper()
	c, err := newClient(s.repo(repo), transport.PushScope, o, sources...)
	if err != nil {
		s.t.Fatal(err)
	}
	return c
}

// delays records the waits of a client that does not wait.
type delays struct {
	mu   sync.Mutex
	list []time.Duration
}

// quick are options without waits.
func quick() (Options, *delays) {
	d := &delays{}
	return Options{Jobs: 1, pacing: pacing{wait: func(w time.Duration) time.Duration {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.list = append(d.list, w)
		return 0
	}}}, d
}

// want checks the waits, in seconds and without their jitter.
func (d *delays) want(t *testing.T, seconds ...int) {
	t.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	same := slices.EqualFunc(d.list, seconds, func(got time.Duration, want int) bool {
		return math.Abs(got.Seconds()/float64(want)-1) <= delayJitter+0.001
	})
	if !same {
		t.Errorf("waited for %s, want %d seconds", d.list, seconds)
	}
}

// once is a hook that strikes the n-th request, from 1, that begins with a
// method and has a text in its path.
func once(n int, method, path string, do hook) hook {
	return between(n, n, method, path, do)
}

// between is a hook for the requests from the first-th to the last-th.
func between(first, last int, method, path string, do hook) hook {
	var mu sync.Mutex
	count := 0
	return func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method != method || !strings.Contains(r.URL.Path, path) {
			return false
		}
		mu.Lock()
		count++
		mine := first <= count && count <= last
		mu.Unlock()
		return mine && do(w, r)
	}
}

// anyOf is a hook that tries several.
func anyOf(hooks ...hook) hook {
	return func(w http.ResponseWriter, r *http.Request) bool {
		return slices.ContainsFunc(hooks, func(h hook) bool { return h(w, r) })
	}
}

// says is a hook that answers with a status and some headers.
func says(status int, header ...string) hook {
	return func(w http.ResponseWriter, r *http.Request) bool {
		_, _ = io.Copy(io.Discard, r.Body) // a connection that is closed too early may hide the answer
		for i := 0; i+1 < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		w.WriteHeader(status)
		return true
	}
}

// breaks is a hook that closes the connection.
func breaks(http.ResponseWriter, *http.Request) bool { panic(http.ErrAbortHandler) }

// half is a hook that takes half of a body into an upload and then breaks.
func (s *fakeServer) half(then hook) hook {
	return func(w http.ResponseWriter, r *http.Request) bool {
		data := make([]byte, r.ContentLength/2)
		if _, err := io.ReadFull(r.Body, data); err != nil {
			s.t.Error(err)
		}
		id := r.URL.Path[strings.LastIndexByte(r.URL.Path, '/')+1:]
		s.mu.Lock()
		s.uploads[id] = append(s.uploads[id], data...)
		s.mu.Unlock()
		return then(w, r)
	}
}

// noise is content that repeats nowhere.
func noise(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(b) // never fails
	return b
}

// layerOf is a layer that is opened from memory, with the number of times that
// it was.
func layerOf(data []byte) (Layer, *int) {
	opened := new(int)
	return Layer{Digest: digestOf(data), Size: int64(len(data)), Open: func(context.Context) (io.ReadCloser, error) {
		*opened++
		return io.NopCloser(bytes.NewReader(data)), nil
	}}, opened
}

// wantList compares what happened with what should have.
func wantList(t *testing.T, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("requests\n\t%s\nwant\n\t%s", strings.Join(got, "\n\t"), strings.Join(want, "\n\t"))
	}
}

// errorText is an error's text, empty for none.
func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// wantHint checks the hint of an error.
func wantHint(t *testing.T, err error, text string) {
	t.Helper()
	var hint *HintError
	if !errors.As(err, &hint) || !strings.Contains(hint.Hint, text) {
		t.Errorf("error %v has no hint %q", err, text)
	}
}

// alarms are timers that a test rings.
type alarms struct {
	changed *sync.Cond
	last    *fakeAlarm
}

func newAlarms() *alarms { return &alarms{changed: sync.NewCond(&sync.Mutex{})} }

// fakeAlarm rings when a test wants it to.
type fakeAlarm struct {
	of      *alarms
	armed   bool
	timeout time.Duration
	call    func()
}

func (a *alarms) new(d time.Duration, f func()) alarm {
	last := &fakeAlarm{of: a, call: f}
	a.changed.L.Lock()
	a.last = last
	a.changed.L.Unlock()
	last.Reset(d)
	return last
}

// Reset implements alarm.
func (f *fakeAlarm) Reset(d time.Duration) bool {
	f.of.changed.L.Lock()
	defer f.of.changed.L.Unlock()
	was := f.armed
	f.armed, f.timeout = true, d
	f.of.changed.Broadcast()
	return was
}

// Stop implements alarm.
func (f *fakeAlarm) Stop() bool {
	f.of.changed.L.Lock()
	defer f.of.changed.L.Unlock()
	was := f.armed
	f.armed = false
	return was
}

// ring rings the newest alarm as soon as it is armed.
func (a *alarms) ring() {
	a.changed.L.Lock()
	defer a.changed.L.Unlock()
	for !a.last.armed {
		a.changed.Wait()
	}
	a.last.armed = false
	a.last.call()
}
