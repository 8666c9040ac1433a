package main

import (
	"bytes"
	"encoding/pem"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// hub is a registry on loopback.
type hub struct {
	t    *testing.T
	host string

	mu sync.Mutex
	// requests are those that were answered, as "METHOD PATH".
	requests []string
	// hook sees a request first and may answer it: then it returns true.
	hook func(http.ResponseWriter, *http.Request) bool
}

func newHub(t *testing.T) *hub {
	t.Helper()
	h := &hub{t: t}
	server := httptest.NewServer(h.handler())
	t.Cleanup(server.Close)
	h.host = strings.TrimPrefix(server.URL, "http://")
	return h
}

func (h *hub) handler() http.Handler {
	inner := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h.mu.Lock()
		h.requests = append(h.requests, r.Method+" "+r.URL.Path)
		hook := h.hook
		h.mu.Unlock()
		if hook == nil || !hook(w, r) {
			inner.ServeHTTP(w, r)
		}
	})
}

func (h *hub) setHook(hook func(http.ResponseWriter, *http.Request) bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.hook = hook
}

// asked counts the requests since the last call that begin with a prefix.
func (h *hub) asked(prefix string) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	n := 0
	for _, r := range h.requests {
		if strings.HasPrefix(r, prefix) {
			n++
		}
	}
	h.requests = nil
	return n
}

func (h *hub) ref(name string) string { return h.host + "/" + name }

func (h *hub) send(method, path string, mediaType types.MediaType, body []byte) {
	h.t.Helper()
	req, err := http.NewRequest(method, "http://"+h.host+"/v2/"+path, bytes.NewReader(body))
	if err != nil {
		h.t.Fatal(err)
	}
	req.Header.Set("Content-Type", string(mediaType))
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		h.t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode >= 300 {
		text, _ := io.ReadAll(resp.Body)
		h.t.Fatalf("%s %s: %s: %s", method, path, resp.Status, text)
	}
}

// push stores a fixture as REPO:TAG and returns the reference.
func (h *hub) push(f *fixture, repo, tag string) string {
	h.t.Helper()
	for _, b := range append([][]byte{f.config}, f.blobs...) {
		h.send("POST", repo+"/blobs/uploads/?digest="+sha256Of(b), "application/octet-stream", b)
	}
	h.send("PUT", repo+"/manifests/"+sha256Of(f.manifest), f.mediaType, f.manifest)
	h.send("PUT", repo+"/manifests/"+tag, f.mediaType, f.manifest)
	return h.ref(repo + ":" + tag)
}

// get returns an answer's body and media type; the body is nil if there is none.
func (h *hub) get(path string) ([]byte, string) {
	h.t.Helper()
	resp, err := http.Get("http://" + h.host + "/v2/" + path)
	if err != nil {
		h.t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusNotFound {
		return nil, ""
	}
	b, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		h.t.Fatalf("GET %s: %s, %v", path, resp.Status, err)
	}
	return b, resp.Header.Get("Content-Type")
}

// pull reads the image that a tag or digest names.
func (h *hub) pull(repo, tag string) *stored {
	h.t.Helper()
	manifest, mediaType := h.get(repo + "/manifests/" + tag)
	if manifest == nil {
		h.t.Fatalf("%s:%s is not there", repo, tag)
	}
	i := assemble(h.t, manifest, func(digest string) []byte {
		b, _ := h.get(repo + "/blobs/" + digest)
		return b
	})
	if i.mediaType != mediaType {
		h.t.Errorf("%s:%s says %q, the registry %q", repo, tag, i.mediaType, mediaType)
	}
	return i
}

// wantNone checks that a tag does not exist.
func (h *hub) wantNone(repo, tag string) {
	h.t.Helper()
	if manifest, _ := h.get(repo + "/manifests/" + tag); manifest != nil {
		h.t.Errorf("%s:%s was written", repo, tag)
	}
}

// answer is a hook that answers requests for a path with other content.
func answer(suffix string, body []byte) func(http.ResponseWriter, *http.Request) bool {
	return func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodGet || !strings.HasSuffix(r.URL.Path, suffix) {
			return false
		}
		w.Header().Set("Content-Length", strconv.Itoa(len(body)))
		_, err := w.Write(body)
		return err == nil
	}
}

// TestCertificates reads from a registry whose certificate nobody knows.
func TestCertificates(t *testing.T) {
	s, h := newSandbox(t), newHub(t)
	h.push(recipe{layers: appLayers}.build(), "app", "1")
	plain, err := url.Parse("http://" + h.host)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(httputil.NewSingleHostReverseProxy(plain))
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	t.Cleanup(server.Close)
	host := strings.TrimPrefix(server.URL, "https://")
	s.write("ca.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}))
	s.write("empty.pem", nil)
	s.write("auth.json", []byte("{"))
	for _, flag := range []string{"--insecure", "--insecure=" + host, "--insecure=127.0.0.1", "--ca-file=ca.pem"} {
		s.done("squash", flag, host+"/app:1", "oci:out:1")
	}
	for flag, text := range map[string]string{
		"--dry-run": "", "--insecure=example.com": "", "--ca-file=none.pem": "none.pem", "--ca-file=empty.pem": `"empty.pem" holds none in PEM form`,
		"--authfile=auth.json": `credentials from "auth.json"`, "--authfile=none.json": "none.json",
	} {
		// Neither another host's flag nor a wrong file may let the registry in.
		if o := s.run("squash", flag, host+"/app:1", "oci:none:1"); o.code == exitDone || !strings.Contains(o.err, text) {
			t.Errorf("%s: exit code %d, standard error lacks %q:\n%s", flag, o.code, text, o.err)
		}
	}
}
