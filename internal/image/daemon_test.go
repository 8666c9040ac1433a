package image

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// fakeEngine answers as a Docker engine does, for images of its memory.
type fakeEngine struct {
	// answer, where set, answers in place of the engine if it returns true.
	answer func(http.ResponseWriter, *http.Request) bool
	// silent keeps the ID out of the answer to a load.
	silent bool

	mu sync.Mutex
	// archives has the members of the archives that were loaded, by ID.
	archives map[string][]tarMember
	tags     map[string]string // to IDs
	requests []string
	// loads gets the error that each load ended with.
	loads chan error
}

// startEngine starts an engine on a socket that DOCKER_HOST names.
func startEngine(t *testing.T) *fakeEngine {
	t.Helper()
	dir, err := os.MkdirTemp("", "e") // the path of a socket is short
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("unix", filepath.Join(dir, "s"))
	if err != nil {
		t.Fatal(err)
	}
	e := &fakeEngine{archives: map[string][]tarMember{}, tags: map[string]string{}, loads: make(chan error, 10)}
	server := &httptest.Server{Listener: listener, Config: &http.Server{Handler: e}}
	server.Start()
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
		os.RemoveAll(dir)
	})
	t.Setenv("DOCKER_HOST", "unix://"+listener.Addr().String())
	return e
}

// put gives the engine a fixture under tags.
func (e *fakeEngine) put(f fixture, tags ...string) string {
	members, saved := f.saved()
	id := digestOf(f.config).String()
	e.archives[id] = append(members, savedJSON(saved))
	for _, tag := range tags {
		e.tags[tag] = id
	}
	return id
}

// listed is every image of the engine with its tags.
func (e *fakeEngine) listed() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	var list []string
	for id := range e.archives {
		list = append(list, strings.Join(append([]string{id}, e.tagsOf(id)...), " "))
	}
	slices.Sort(list)
	return list
}

func (e *fakeEngine) tagsOf(id string) []string {
	var tags []string
	for tag, of := range e.tags {
		if of == id {
			tags = append(tags, tag)
		}
	}
	slices.Sort(tags)
	return tags
}

// resolve finds an image by its tag, latest where it has none, or its ID.
func (e *fakeEngine) resolve(name string) string {
	for _, tag := range []string{name, name + ":latest"} {
		if id, ok := e.tags[tag]; ok {
			return id
		}
	}
	for id := range e.archives {
		if strings.HasPrefix(id, name) || strings.HasPrefix(id, "sha256:"+name) {
			return id
		}
	}
	return ""
}

var enginePath = regexp.MustCompile(`^/v1\.41/images/(.+?)(?:/(json|get|tag))?$`)

// ServeHTTP implements http.Handler.
func (e *fakeEngine) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	e.mu.Lock()
	e.requests = append(e.requests, r.Method+" "+r.URL.Path)
	e.mu.Unlock()
	if e.answer != nil && e.answer(w, r) {
		return
	}
	w.Header().Set("Api-Version", "1.41")
	if r.URL.Path == "/_ping" {
		return
	}
	if r.URL.Path == "/v1.41/images/load" {
		e.load(w, r)
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	path := enginePath.FindStringSubmatch(r.URL.Path)
	id := ""
	if path != nil {
		id = e.resolve(path[1])
	}
	switch {
	case id == "":
		w.WriteHeader(http.StatusNotFound)
		fmt.Fprint(w, `{"message":"No such image"}`)
	case path[2] == "json":
		json.NewEncoder(w).Encode(map[string]any{"Id": id, "RepoTags": e.tagsOf(id), "Parent": ""})
	case path[2] == "get":
		w.Write(tarOf(e.archives[id]...))
	case path[2] == "tag" && r.Method == http.MethodPost:
		e.tags[r.URL.Query().Get("repo")+":"+r.URL.Query().Get("tag")] = id
		w.WriteHeader(http.StatusCreated)
	case r.Method == http.MethodDelete:
		delete(e.tags, path[1])
		if len(e.tagsOf(id)) == 0 {
			delete(e.archives, id)
		}
	}
}

// load stores an archive if the request has all of it.
func (e *fakeEngine) load(w http.ResponseWriter, r *http.Request) {
	var members []tarMember
	config := ""
	tr := tar.NewReader(r.Body)
	hdr, err := tr.Next()
	for ; err == nil; hdr, err = tr.Next() {
		var content []byte
		if content, err = io.ReadAll(tr); err != nil {
			break
		}
		members = append(members, tarMember{*hdr, string(content)})
		if strings.HasSuffix(hdr.Name, ".json") && hdr.Name != savedManifest {
			config = string(content)
		}
	}
	if err == io.EOF {
		_, err = io.Copy(io.Discard, r.Body)
	}
	e.loads <- err
	e.mu.Lock()
	defer e.mu.Unlock()
	if err != nil {
		fmt.Fprintf(w, `{"errorDetail":{"message":%q}}`, err)
		return
	}
	id := digestOf([]byte(config)).String()
	e.archives[id] = members
	if !e.silent {
		fmt.Fprintf(w, `{"stream":"Loaded image ID: %s\n"}`, id)
	}
}

func daemonRef(t *testing.T, name string) Ref {
	t.Helper()
	ref, err := ParseRef("docker-daemon:" + name)
	if err != nil {
		t.Fatal(err)
	}
	return ref
}

func TestDaemonOpen(t *testing.T) {
	e := startEngine(t)
	app, hexName := newFixture("linux/amd64", asTar, "a", "b"), newFixture("linux/amd64", asTar, "c")
	id := e.put(app, "app:latest", "app:1", "r.example.com:5000/team/app:2")
	e.put(hexName, "cafe:latest")
	for _, tc := range []struct {
		name, ref string
		want      fixture
		names     []string
		get       string
	}{
		{"tag", "app:1", app, []string{"app:1"}, "app:1"},
		{"no tag is latest, not all", "app", app, []string{"app:latest"}, "app:latest"},
		{"registry with a port", "r.example.com:5000/team/app:2", app, []string{"r.example.com:5000/team/app:2"}, "r.example.com:5000/team/app:2"},
		{"ID", id, app, nil, id},
		{"ID without algorithm", id[len("sha256:"):], app, nil, id},
		{"beginning of an ID", id[len("sha256:"):][:12], app, nil, id},
		{"name of hexadecimal digits", "cafe", hexName, []string{"cafe:latest"}, "cafe:latest"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			e.requests = nil
			img, err := openImage(t, daemonRef(t, tc.ref), "", Options{TempDir: t.TempDir()})
			if err != nil {
				t.Fatal(err)
			}
			wantContent(t, img, tc.want.config, tc.want.blobs)
			if !slices.Equal(img.Names, tc.names) {
				t.Errorf("names %q, want %q", img.Names, tc.names)
			}
			if last := e.requests[len(e.requests)-1]; last != "GET /v1.41/images/"+tc.get+"/get" {
				t.Errorf("the archive is that of %q, want %q", last, tc.get)
			}
		})
	}
}

// TestDaemonSparse reads what an engine with containerd's image store saves of
// an index: the manifests of other platforms are named and not there, and those
// that are there have one element of manifest.json each.
func TestDaemonSparse(t *testing.T) {
	e := startEngine(t)
	amd, arm, absent := newFixture("linux/amd64", asGzip, "a"), newFixture("linux/arm64", asGzip, "b"), newFixture("linux/s390x", asGzip, "c")
	index := indexOf(amd.entry(platformJSON("linux/amd64")), arm.entry(platformJSON("linux/arm64")), absent.entry(platformJSON("linux/s390x")))
	var saved []savedImage
	for _, f := range []fixture{amd, arm} {
		s := savedImage{Config: blobName(digestOf(f.config)), RepoTags: nil, Layers: []string{blobName(digestOf(f.blobs[0]))}}
		saved = append(saved, s)
	}
	id := digestOf(index).String()
	e.archives[id], e.tags["app:1"] = append(layoutMembers(index, amd, arm), savedJSON(saved...)), id
	for _, ref := range []string{"app:1", id} {
		img, err := openImage(t, daemonRef(t, ref), "linux/arm64", Options{})
		if err != nil {
			t.Fatal(err)
		}
		wantImage(t, img, arm)
		_, err = openImage(t, daemonRef(t, ref), "", Options{})
		wantError(t, err, "several platforms: linux/amd64, linux/arm64", true)
	}
}

func TestDaemonOpenErrors(t *testing.T) {
	e := startEngine(t)
	id := e.put(newFixture("linux/amd64", asTar, "a"), "app:1")
	body := func(status int, end, text string) func(http.ResponseWriter, *http.Request) bool {
		return func(w http.ResponseWriter, r *http.Request) bool {
			if !strings.HasSuffix(r.URL.Path, end) {
				return false
			}
			w.WriteHeader(status)
			io.WriteString(w, text)
			return true
		}
	}
	for _, tc := range []struct {
		name, ref, err string
		hinted         bool
		answer         func(http.ResponseWriter, *http.Request) bool
	}{
		{"no such image", "nope", `the engine has no image "nope:latest"`, true, nil},
		{"gone in between", "app:1", `the engine has no image "app:1"`, true, body(404, "/get", "")},
		{"message is quoted", "app:1", `the engine answers 500: "bad\x1b[31m"`, false, body(500, "/json", `{"message":"bad\u001b[31m"}`)},
		{"message without JSON", "app:1", `the engine answers 403: "Forbidden"`, false, body(403, "/json", "Forbidden\n")},
		{"long message", "app:1", `the engine answers 500: "xxx`, false, body(500, "/json", strings.Repeat("x", 2*maxMessage))},
		{"engine that wants TLS", "app:1", "HTTP request to an HTTPS server", true, body(400, "/_ping", "Client sent an HTTP request to an HTTPS server.\n")},
		{"redirect", "app:1", "the engine answers 302", false, func(w http.ResponseWriter, r *http.Request) bool {
			http.Redirect(w, r, "http://example.com/", http.StatusFound)
			return true
		}},
		{"ID that leads elsewhere", id, "is no ID of an image", false, body(200, "/json", `{"Id":"../../containers/x"}`)},
		{"no JSON", "app:1", "reading the engine's description", false, body(200, "/json", "{")},
		{"endless description", "app:1", "more than 16777216 bytes", false, body(200, "/json", strings.Repeat(" ", maxEngineAnswer+1))},
		{"no archive", "app:1", "not a tar archive", true, body(200, "/get", strings.Repeat("hello", 200))},
		{"empty archive", "app:1", "it is empty", true, body(200, "/get", "")},
		{"archive of something else", "app:1", "no manifest.json", true, body(200, "/get", string(tarOf(tarFile("x", ""))))},
		{"archive that is cut off", "app:1", "the engine's archive is cut off", true, body(200, "/get", string(tarOf(tarFile("x", strings.Repeat("x", 2000)))[:1200]))},
		{"many images", "app:1", "257 images of one name", false, body(200, "/get", string(tarOf(savedJSON(make([]savedImage, 257)...))))},
		{"connection that ends", "app:1", "the engine's archive is cut off", true, func(w http.ResponseWriter, r *http.Request) bool {
			if !strings.HasSuffix(r.URL.Path, "/get") {
				return false
			}
			w.Header().Set("Content-Length", "1000000")
			w.Write(make([]byte, 512))
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			e.answer = tc.answer
			_, err := openImage(t, daemonRef(t, tc.ref), "", Options{})
			wantError(t, err, tc.err, tc.hinted)
			if len(err.Error()) > 2000 {
				t.Errorf("the error has %d bytes", len(err.Error()))
			}
		})
	}
}

func TestDaemonOpenCancelled(t *testing.T) {
	e := startEngine(t)
	e.put(newFixture("linux/amd64", asTar, "a"), "app:1")
	ctx, cancel := context.WithCancelCause(t.Context())
	interrupted := errors.New("interrupted")
	e.answer = func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.HasSuffix(r.URL.Path, "/get") {
			return false
		}
		w.Write(make([]byte, 512))
		w.(http.Flusher).Flush()
		cancel(interrupted)
		<-r.Context().Done()
		return true
	}
	dir := t.TempDir()
	if _, err := Open(ctx, daemonRef(t, "app:1"), Options{TempDir: dir}); !errors.Is(err, interrupted) {
		t.Errorf("error %v, want %v", err, interrupted)
	}
	if left := listing(t, dir); len(left) != 1 {
		t.Errorf("left behind: %q", left)
	}
}

func TestDaemonWrite(t *testing.T) {
	for _, silent := range []bool{false, true} {
		for _, c := range []compressor{asTar, asGzip, asZstd} {
			t.Run(fmt.Sprintf("%s silent=%t", c.mediaType, silent), func(t *testing.T) {
				e := startEngine(t)
				e.silent = silent
				old, f := newFixture("linux/amd64", asTar, "old"), newFixture("linux/amd64", c, "a", "a", "b")
				oldID := e.put(old, "team/app:latest")
				id := digestOf(f.config).String()
				line, err := Write(t.Context(), daemonRef(t, "team/app"), f.image(t), Options{})
				if err != nil {
					t.Fatal(err)
				}
				if line != id {
					t.Errorf("line %q, want %q", line, id)
				}
				want := []string{oldID, id + " team/app:latest"}
				if slices.Sort(want); !slices.Equal(e.listed(), want) {
					t.Errorf("the engine has %q, want %q", e.listed(), want)
				}
				back, err := openImage(t, daemonRef(t, "team/app"), "", Options{})
				if err != nil {
					t.Fatal(err)
				}
				blobs := f.blobs
				if c.mediaType == asZstd.mediaType {
					blobs = f.plain // for engines that do not know zstd
				}
				wantContent(t, back, f.config, blobs)
			})
		}
	}
}

// TestDaemonProve has an image proved that comes without a name, and removes
// nothing but that when it is refused.
func TestDaemonProve(t *testing.T) {
	f, old := newFixture("linux/amd64", asTar, "a"), newFixture("linux/amd64", asTar, "old")
	id, oldID := digestOf(f.config).String(), digestOf(old.config).String()
	refused := errors.New("refused")
	for _, tc := range []struct {
		name   string
		before []string // tags of the same image
		err    error
		want   []string
	}{
		{"proved", nil, nil, []string{oldID, id + " app:1"}},
		{"refused", nil, refused, []string{oldID + " app:1"}},
		{"proved, image was there", []string{"other:1"}, nil, []string{oldID, id + " app:1 other:1"}},
		{"refused, image was there", []string{"other:1"}, refused, []string{oldID + " app:1", id + " other:1"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			e := startEngine(t)
			e.put(old, "app:1")
			if tc.before != nil {
				e.put(f, tc.before...)
			}
			proved := 0
			_, err := Write(t.Context(), daemonRef(t, "app:1"), f.image(t), Options{Prove: func(_ context.Context, img *Image) error {
				proved++
				wantContent(t, img, f.config, f.blobs)
				if e.tags["app:1"] != oldID {
					t.Error("the tag is set before the proof")
				}
				return tc.err
			}})
			if !errors.Is(err, tc.err) || proved != 1 {
				t.Errorf("error %v after %d proofs, want %v after 1", err, proved, tc.err)
			}
			if slices.Sort(tc.want); !slices.Equal(e.listed(), tc.want) {
				t.Errorf("the engine has %q, want %q", e.listed(), tc.want)
			}
		})
	}
}

// TestDaemonProveCancelled removes what was loaded although the context ended.
func TestDaemonProveCancelled(t *testing.T) {
	e := startEngine(t)
	ctx, cancel := context.WithCancel(t.Context())
	_, err := Write(ctx, daemonRef(t, "app:1"), newFixture("linux/amd64", asTar, "a").image(t), Options{Prove: func(ctx context.Context, _ *Image) error {
		cancel()
		return ctx.Err()
	}})
	if !errors.Is(err, context.Canceled) || len(e.listed()) != 0 {
		t.Errorf("error %v, the engine has %q; want %v and nothing", err, e.listed(), context.Canceled)
	}
}

// TestDaemonWriteAborted breaks the request off where a layer turns out to be
// bad, so that the engine gets no whole archive. The first layer is larger than
// all buffers on the way to the engine.
func TestDaemonWriteAborted(t *testing.T) {
	f := newFixture("linux/amd64", asTar, strings.Repeat("a", 4<<20), strings.Repeat("b", 100_000))
	for _, tc := range []struct {
		name, err string
		open      func(cancel func()) func(context.Context) (io.ReadCloser, error)
	}{
		{"other bytes", "layer 2 (", func(func()) func(context.Context) (io.ReadCloser, error) {
			return opens(bytes.Repeat([]byte("x"), len(f.blobs[1])))
		}},
		{"short", "layer 2 (", func(func()) func(context.Context) (io.ReadCloser, error) { return opens(f.blobs[1][:512]) }},
		{"cancelled", "interrupted", func(cancel func()) func(context.Context) (io.ReadCloser, error) {
			return cancelling(f.blobs[1], cancel)
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			e := startEngine(t)
			ctx, cancel := context.WithCancelCause(t.Context())
			begun := make(chan struct{})
			e.answer = func(_ http.ResponseWriter, r *http.Request) bool {
				if r.Method == http.MethodPost {
					close(begun)
				}
				return false
			}
			img := f.image(t)
			img.Layers[1].Open = func(ctx context.Context) (io.ReadCloser, error) {
				<-begun
				return tc.open(func() { cancel(errors.New("interrupted")) })(ctx)
			}
			_, err := Write(ctx, daemonRef(t, "app:1"), img, Options{})
			if err == nil || !strings.Contains(err.Error(), tc.err) || strings.Contains(err.Error(), "engine") {
				t.Errorf("error %v, want one of the layer with %q", err, tc.err)
			}
			if err := <-e.loads; err == nil || err == io.EOF {
				t.Error("the engine got a whole archive")
			}
			if len(e.listed()) != 0 {
				t.Errorf("the engine has %q", e.listed())
			}
		})
	}
}

// TestDaemonLoadRefused reads what engines answer to a load in place of an ID.
func TestDaemonLoadRefused(t *testing.T) {
	large := newFixture("linux/amd64", asTar, strings.Repeat("a", 4<<20))
	small := newFixture("linux/amd64", asTar, "a")
	answer := func(read bool, status int, text string) func(http.ResponseWriter, *http.Request) bool {
		return func(w http.ResponseWriter, r *http.Request) bool {
			if r.URL.Path != "/v1.41/images/load" {
				return false
			}
			if read {
				io.Copy(io.Discard, r.Body)
			}
			w.WriteHeader(status)
			io.WriteString(w, text)
			return true
		}
	}
	for _, tc := range []struct {
		name, err string
		image     fixture
		answer    func(http.ResponseWriter, *http.Request) bool
	}{
		{"error detail", `the engine says "no space\tleft"`, small, answer(true, 200, `{"stream":"x"}{"errorDetail":{"message":"no space\tleft"},"error":"e"}`)},
		{"error alone", `the engine says "e"`, small, answer(true, 200, `{"error":"e"}`)},
		{"status", `the engine answers 500: "broken"`, small, answer(true, 500, `{"message":"broken"}`)},
		{"no JSON", "reading the engine's answer", small, answer(true, 200, `Loaded`)},
		{"endless stream", "more than 16777216 bytes", small, answer(true, 200, strings.Repeat(`{"stream":"`+strings.Repeat("x", 1<<20)+`"}`, 17))},
		{"endless value", "more than 16777216 bytes", small, answer(true, 200, `{"stream":"`+strings.Repeat("x", 17<<20)+`"}`)},
		{"loaded another image", "the engine has no image", small, answer(true, 200, `{"stream":"Loaded image: app:1\n"}`)},
		{"success without reading", "", large, answer(false, 200, `{"stream":"x"}`)},
		{"refusal without reading", "", large, answer(false, 403, `{"message":"x"}`)},
	} {
		t.Run(tc.name, func(t *testing.T) {
			e := startEngine(t)
			e.answer = tc.answer
			line, err := Write(t.Context(), daemonRef(t, "app:1"), tc.image.image(t), Options{})
			if err == nil || !strings.Contains(err.Error(), tc.err) || len(err.Error()) > 2000 {
				t.Errorf("%q, error %v, want one with %q", line, err, tc.err)
			}
			if len(e.tags) != 0 {
				t.Errorf("the engine has tags: %v", e.tags)
			}
		})
	}
}

func TestDaemonTagRefused(t *testing.T) {
	e := startEngine(t)
	e.answer = func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Query().Get("repo") != "app" {
			return false
		}
		w.WriteHeader(http.StatusBadRequest)
		return true
	}
	_, err := Write(t.Context(), daemonRef(t, "app:1"), newFixture("linux/amd64", asTar, "a").image(t), Options{})
	wantError(t, err, `tagging: the engine answers 400: ""`, false)
	if len(e.listed()) != 0 {
		t.Errorf("the engine has %q", e.listed())
	}
}

func TestDaemonUnreachable(t *testing.T) {
	dir := t.TempDir()
	socket := filepath.Join(dir, "none")
	t.Setenv("DOCKER_HOST", "unix://"+socket)
	_, err := Open(t.Context(), daemonRef(t, "app:1"), Options{})
	for _, err := range []error{err, CheckTarget(daemonRef(t, "app:1"))} {
		wantError(t, err, "docker-daemon:app:1: asking the engine: dial unix "+socket, true)
		var hint *HintError
		if errors.As(err, &hint); hint.Hint != fmt.Sprintf("is the engine running? DOCKER_HOST is %q", "unix://"+socket) {
			t.Errorf("hint %q", hint.Hint)
		}
	}
	denied := &net.OpError{Op: "dial", Net: "unix", Err: os.NewSyscallError("connect", syscall.EACCES)}
	at, err := findEngine()
	if err != nil {
		t.Fatal(err)
	}
	err = (&engine{at: at}).explain(t.Context(), denied)
	var hint *HintError
	if !errors.As(err, &hint) || !strings.Contains(hint.Hint, "group docker") {
		t.Errorf("error %v, want a hint about the group docker", err)
	}
}

func TestDaemonCheckTarget(t *testing.T) {
	startEngine(t)
	for _, tc := range []struct{ ref, err, hint string }{
		{"app", "", ""},
		{"r.example.com:5000/team/app:1", "", ""},
		{"cafe:latest", "", ""},
		{"cafe", "names an image by its ID", "write docker-daemon:cafe:latest"},
		{"0123456789ab", "names an image by its ID", "write docker-daemon:NAME:TAG"},
		{"sha256:" + hexDigest, "names an image by its ID", "write docker-daemon:NAME:TAG"},
		{"app@sha256:" + hexDigest, "names an image by its ID or digest", "write docker-daemon:NAME:TAG"},
	} {
		err := CheckTarget(daemonRef(t, tc.ref))
		var usage *UsageError
		switch {
		case tc.err == "" && err != nil:
			t.Errorf("%s: %v", tc.ref, err)
		case tc.err != "" && (!errors.As(err, &usage) || !strings.Contains(usage.Msg, tc.err) || !strings.Contains(usage.Hint, tc.hint)):
			t.Errorf("%s: error %v, want one with %q and the hint %q", tc.ref, err, tc.err, tc.hint)
		}
		if tc.err == "" {
			continue
		}
		_, err = Write(t.Context(), daemonRef(t, tc.ref), newFixture("linux/amd64", asTar, "a").image(t), Options{})
		if !errors.As(err, &usage) {
			t.Errorf("%s: writing gives %v", tc.ref, err)
		}
	}
}
