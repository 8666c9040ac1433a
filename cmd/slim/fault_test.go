package main

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"text/tabwriter"
	"time"

	"golang.org/x/sys/unix"
)

// kills is raised to try more moments than a usual run has time for.
var kills = flag.Int("kills", 8, "kill this many runs of slim for each kind of target")

// fileLimitEnv makes a child's files end at so many bytes, as a full disk does.
const fileLimitEnv = "SLIM_TEST_FILE_LIMIT"

func init() {
	limit, err := strconv.ParseUint(os.Getenv(fileLimitEnv), 10, 64)
	if err != nil {
		return
	}
	signal.Ignore(syscall.SIGXFSZ)
	if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: limit, Max: limit}); err != nil {
		panic(err)
	}
}

// noise is a text of n bytes that does not compress well and is the same every
// time.
func noise(seed byte, n int) string {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{seed}).Read(b) //nolint:errcheck // never fails
	return base64.RawURLEncoding.EncodeToString(b)[:n]
}

// noisy is an image with a base layer and two layers above it of some size.
func noisy(base, upper int) *fixture {
	return recipe{layers: fmt.Sprintf("etc/ etc/os=1 usr/ usr/base=%s | usr/a=%s | etc/b=2 ✗etc/os",
		noise(1, base), noise(2, upper))}.build()
}

// strike is what a registry does in place of an answer; body is what the answer
// would have been.
type strike func(w http.ResponseWriter, r *http.Request, body []byte)

func answers(code int) strike {
	return func(w http.ResponseWriter, _ *http.Request, _ []byte) {
		w.Header().Set("Retry-After", "1")
		w.WriteHeader(code)
	}
}

// drops closes the connection: of a GET in the middle of the body, of an upload
// in the middle of the request.
func drops(w http.ResponseWriter, r *http.Request, body []byte) {
	if r.Method == http.MethodGet {
		w.Header().Set("Content-Length", strconv.Itoa(len(body)))
		w.Write(body[:len(body)/2]) //nolint:errcheck // the client sees it
		w.(http.Flusher).Flush()
	}
	io.CopyN(io.Discard, r.Body, r.ContentLength/2) //nolint:errcheck // the client may have gone
	panic(http.ErrAbortHandler)
}

// shortens answers with half of the body as if that were all.
func shortens(w http.ResponseWriter, _ *http.Request, body []byte) {
	w.Header().Set("Content-Length", strconv.Itoa(len(body)/2))
	w.Write(body[:len(body)/2]) //nolint:errcheck // the client sees it
}

// alters answers with one bit changed.
func alters(w http.ResponseWriter, _ *http.Request, body []byte) {
	b := bytes.Clone(body)
	b[len(b)/2] ^= 1
	w.Write(b) //nolint:errcheck // the client sees it
}

// lengthens answers with a byte too many.
func lengthens(w http.ResponseWriter, _ *http.Request, body []byte) {
	w.Write(append(bytes.Clone(body), 0)) //nolint:errcheck // the client sees it
}

// fault is what goes wrong between slim and a registry: requests that begin with
// at, those from the first-th to the last-th (0: all that follow), get a strike.
type fault struct {
	name, at    string
	first, last int
	do          strike
	exit        int
	texts       []string
}

// hook returns the fault as a hook of a hub that holds f.
func (c fault) hook(f *fixture) func(http.ResponseWriter, *http.Request) bool {
	bodies := map[string][]byte{"/v2/app/manifests/1": f.manifest, "/v2/app/manifests/" + sha256Of(f.manifest): f.manifest}
	for _, b := range append([][]byte{f.config}, f.blobs...) {
		bodies["/v2/app/blobs/"+sha256Of(b)] = b
	}
	var mu sync.Mutex
	n := 0
	return func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.HasPrefix(r.Method+" "+r.URL.Path, c.at) {
			return false
		}
		mu.Lock()
		n++
		mine := n >= max(c.first, 1) && (c.last == 0 || n <= c.last)
		mu.Unlock()
		if mine {
			if strings.Contains(r.URL.Path, "/manifests/") {
				w.Header().Set("Content-Type", string(f.mediaType))
			}
			c.do(w, r, bodies[r.URL.Path])
		}
		return mine
	}
}

// guarded is a hook that checks, before another sees the request, that no
// manifest comes before all blobs that it names.
func (h *hub) guarded(next func(http.ResponseWriter, *http.Request) bool) func(http.ResponseWriter, *http.Request) bool {
	return func(w http.ResponseWriter, r *http.Request) bool {
		if repo, _, ok := strings.Cut(strings.TrimPrefix(r.URL.Path, "/v2/"), "/manifests/"); ok && r.Method == http.MethodPut {
			body, err := io.ReadAll(r.Body)
			r.Body = io.NopCloser(bytes.NewReader(body))
			if err == nil {
				h.wantBlobs(repo, body)
			}
		}
		return next != nil && next(w, r)
	}
}

// wantBlobs checks that all blobs of a manifest are there.
func (h *hub) wantBlobs(repo string, manifest []byte) {
	var m struct {
		Config descriptorDoc
		Layers []descriptorDoc
	}
	if err := json.Unmarshal(manifest, &m); err != nil {
		h.t.Errorf("a manifest that is none was put into %s: %v", repo, err)
		return
	}
	for _, d := range append(m.Layers, m.Config) {
		resp, err := http.Head("http://" + h.host + "/v2/" + repo + "/blobs/" + d.Digest)
		if err != nil {
			h.t.Error(err)
			continue
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			h.t.Errorf("a manifest was put into %s before its blob %s: %s", repo, d.Digest, resp.Status)
		}
	}
}

// together ends when all runs have ended: they are begun at once, since those
// that try again wait for seconds.
func together(t *testing.T, runs []*running) {
	t.Helper()
	deadline := time.After(60 * time.Second)
	for _, r := range runs {
		select {
		case code := <-r.code:
			r.code <- code
		case <-deadline:
			t.Fatalf("slim %q does not end; standard error:\n%s", r.args, r.s.read(r.err.Name()))
		}
	}
}

// faultRun is a run that a fault strikes, with what it must leave.
type faultRun struct {
	fault
	*running
	from, to *hub
	// before is the manifest that the tag had, nil if it was not there.
	before []byte
}

func (c *faultRun) check(t *testing.T, want string) {
	t.Helper()
	o := c.wait()
	c.s.wantCode(c.exit, o)
	c.s.wantTexts(o, c.texts...)
	c.from.setHook(nil)
	c.to.setHook(nil)
	tagged, _ := c.to.get("out/manifests/slim")
	switch {
	case !strings.HasPrefix(c.args[len(c.args)-1], c.to.host):
		c.checkFile(t, o, want)
	case c.exit == exitDone:
		if got := c.to.pull("out", "slim"); got.digest() != want {
			t.Errorf("the tag is %s, want %s", got.digest(), want)
		}
	case !bytes.Equal(tagged, c.before):
		t.Errorf("the tag is\n%s\nit was\n%s", tagged, c.before)
	}
}

// checkFile checks a docker-archive; that a failed run changed nothing is checked
// for every run.
func (c *faultRun) checkFile(t *testing.T, o outcome, want string) {
	t.Helper()
	if c.exit != exitDone {
		return
	}
	if line := strings.TrimSpace(o.out); line != want {
		t.Errorf("the image is %s, want %s", line, want)
	}
	ofDockerArchive(t, []byte(c.s.read(c.target.path)))
}

// TestRegistryFaults runs a squash for every fault, all at once.
func TestRegistryFaults(t *testing.T) {
	s, f := newSandbox(t), noisy(300_000, 200_000)
	want := map[bool]string{}
	for _, target := range []string{"HUB/out:slim", "docker-archive:want.tar"} {
		h := newHub(t)
		o := s.done("squash", "--no-cache", "--base-layers", "1", h.push(f, "app", "1"), strings.ReplaceAll(target, "HUB", h.host))
		want[target == "HUB/out:slim"] = strings.TrimSpace(o.out[strings.LastIndex(o.out, "sha256:"):])
	}
	var faulty []*faultRun
	var all []*running
	for i, c := range append(sourceFaults(f), targetFaults...) {
		targets := []string{"HUB/out:slim"}
		if strings.Contains(c.at, "/v2/app/") {
			targets = append(targets, fmt.Sprintf("docker-archive:out%d.tar", i))
		}
		for _, target := range targets {
			// Every other target is there already.
			r := startFaulty(s, f, c, target, i%2 == 0)
			faulty, all = append(faulty, r), append(all, r.running)
		}
	}
	together(t, all)
	for _, r := range faulty {
		t.Run(r.name, func(t *testing.T) {
			s.t, r.to.t = t, t
			r.check(t, want[r.target.path == ""])
		})
	}
}

func startFaulty(s *sandbox, f *fixture, c fault, target string, exists bool) *faultRun {
	r := &faultRun{fault: c, from: newHub(s.t), to: newHub(s.t)}
	side, _, _ := strings.Cut(strings.TrimPrefix(c.at[strings.Index(c.at, "/v2/"):], "/v2/"), "/")
	transport, _, _ := strings.Cut(target, ":")
	r.name = fmt.Sprintf("%s, %s to %s", side, c.name, transport)
	source := r.from.push(f, "app", "1")
	if exists {
		old := recipe{layers: "old=1"}.build()
		r.before = old.manifest
		r.to.push(old, "out", "slim")
		if _, file, ok := strings.Cut(target, "docker-archive:"); ok {
			s.write(file, old.dockerArchive("old:1"))
		}
	}
	struck := c.hook(f)
	r.from.setHook(struck)
	r.to.setHook(r.to.guarded(struck))
	r.running = s.start(s.stream(), "squash", "--no-cache", "--base-layers", "1", source, strings.ReplaceAll(target, "HUB", r.to.host))
	return r
}

// sourceFaults strike what slim reads.
func sourceFaults(f *fixture) []fault {
	const manifest = "GET /v2/app/manifests/"
	blob := func(b []byte) string { return "GET /v2/app/blobs/" + sha256Of(b) }
	config, layer, kept := blob(f.config), blob(f.blobs[1]), blob(f.blobs[0])
	layer2 := "layer 2 (" + sha256Of(f.blobs[1]) + ")"
	return []fault{
		{"manifest, 500 once", manifest, 1, 1, answers(500), exitDone, nil},
		{"manifest, 500", manifest, 0, 0, answers(500), exitFailed, []string{"/v2/app/manifests/1", "500"}},
		{"manifest, 429 once", manifest, 1, 1, answers(429), exitDone, nil},
		{"manifest, 429", manifest, 0, 0, answers(429), exitFailed, []string{"429"}},
		{"manifest, 404", manifest, 0, 0, answers(404), exitFailed, []string{"404"}},
		{"manifest, 401", manifest, 0, 0, answers(401), exitFailed, []string{"401", "slim: hint: log in with docker login 127.0.0.1:"}},
		{"manifest, 403", manifest, 0, 0, answers(403), exitFailed, []string{"403", "slim: hint: log in with docker login 127.0.0.1:"}},
		{"manifest, dropped", manifest, 0, 0, drops, exitFailed, []string{"unexpected EOF"}},
		{"manifest, short", manifest, 0, 0, shortens, exitFailed, []string{"manifest"}},
		{"manifest, other bytes", manifest, 0, 0, alters, exitFailed, nil},
		{"config, 500 once", config, 1, 1, answers(500), exitDone, nil},
		{"config, 500", config, 0, 0, answers(500), exitFailed, []string{"config", "500"}},
		{"config, 429", config, 0, 0, answers(429), exitFailed, []string{"config", "429"}},
		{"config, dropped", config, 0, 0, drops, exitFailed, []string{"config: ", "unexpected EOF"}},
		{"config, short", config, 0, 0, shortens, exitFailed, []string{"config: "}},
		{"config, long", config, 0, 0, lengthens, exitFailed, []string{"config: "}},
		{"config, other bytes", config, 0, 0, alters, exitFailed, []string{"config: ", sha256Of(f.config)}},
		{"layer, 500 once", layer, 1, 1, answers(500), exitDone, nil},
		{"layer, 500", layer, 0, 0, answers(500), exitFailed, []string{layer2, "500"}},
		{"layer, 429 once", layer, 1, 1, answers(429), exitDone, nil},
		{"layer, 429", layer, 0, 0, answers(429), exitFailed, []string{layer2, "429"}},
		{"layer, 403", layer, 0, 0, answers(403), exitFailed, []string{layer2, "403", "slim: hint: log in"}},
		{"layer, 404", layer, 0, 0, answers(404), exitFailed, []string{layer2, "404"}},
		{"layer, dropped", layer, 0, 0, drops, exitFailed, []string{layer2, "unexpected EOF"}},
		{"layer, short", layer, 0, 0, shortens, exitFailed, []string{layer2}},
		{"layer, long", layer, 0, 0, lengthens, exitFailed, []string{layer2}},
		{"layer, other bytes", layer, 0, 0, alters, exitFailed, []string{layer2}},
		{"kept layer while copied, 500 once", kept, 2, 2, answers(500), exitDone, nil},
		{"kept layer while copied, 500 twice", kept, 2, 3, answers(500), exitDone, nil},
		{"kept layer while copied, 404", kept, 2, 0, answers(404), exitFailed, []string{"writing ", "404"}},
		{"kept layer while copied, dropped", kept, 2, 0, drops, exitFailed, []string{"writing ", "unexpected EOF"}},
		{"kept layer while copied, short", kept, 2, 0, shortens, exitFailed, []string{"writing ", sha256Of(f.blobs[0])}},
		{"kept layer while copied, other bytes", kept, 2, 0, alters, exitFailed, []string{"writing ", sha256Of(f.blobs[0])}},
	}
}

// The requests of an upload.
const (
	headBlob    = "HEAD /v2/out/blobs/"
	postBlob    = "POST /v2/out/blobs/uploads/"
	patchBlob   = "PATCH /v2/out/blobs/uploads/"
	putBlob     = "PUT /v2/out/blobs/uploads/"
	putManifest = "PUT /v2/out/manifests/slim"
	logIn       = "slim: hint: log in with docker login 127.0.0.1:"
)

// targetFaults strike what slim writes.
var targetFaults = []fault{
	{"look for a blob, 500", headBlob, 0, 0, answers(500), exitFailed, []string{"writing ", "500"}},
	{"look for a blob, 403", headBlob, 0, 0, answers(403), exitFailed, []string{"writing ", "403", logIn}},
	{"upload, 500 once", postBlob, 1, 1, answers(500), exitDone, nil},
	{"upload, 500", postBlob, 0, 0, answers(500), exitFailed, []string{"writing ", "500"}},
	{"upload, 429", postBlob, 0, 0, answers(429), exitFailed, []string{"writing ", "429"}},
	{"upload, 401", postBlob, 0, 0, answers(401), exitFailed, []string{"writing ", "401", logIn}},
	{"upload, 403", postBlob, 0, 0, answers(403), exitFailed, []string{"writing ", "403", logIn}},
	{"second upload, 403", postBlob, 2, 0, answers(403), exitFailed, []string{"writing ", "403", logIn}},
	{"content, 500 once", patchBlob, 1, 1, answers(500), exitDone, nil},
	{"content, 500", patchBlob, 0, 0, answers(500), exitFailed, []string{"writing ", "500"}},
	{"content, 413", patchBlob, 0, 0, answers(413), exitFailed, []string{"writing ", "413"}},
	{"content, dropped once", patchBlob, 1, 1, drops, exitDone, nil},
	{"content, dropped", patchBlob, 0, 0, drops, exitFailed, []string{"writing "}},
	{"end of a blob, 500 once", putBlob, 1, 1, answers(500), exitDone, nil},
	{"end of a blob, 500", putBlob, 0, 0, answers(500), exitFailed, []string{"writing ", "500"}},
	{"end of the last blob, 500", putBlob, 3, 0, answers(500), exitFailed, []string{"writing ", "500"}},
	{"end of a blob, dropped", putBlob, 0, 0, drops, exitFailed, []string{"writing "}},
	{"manifest, 500 once", putManifest, 1, 1, answers(500), exitDone, nil},
	{"manifest, 500", putManifest, 0, 0, answers(500), exitFailed, []string{"writing the manifest: ", "500"}},
	{"manifest, 400", putManifest, 0, 0, answers(400), exitFailed, []string{"writing the manifest: ", "400"}},
	{"manifest, 401", putManifest, 0, 0, answers(401), exitFailed, []string{"writing the manifest: ", "401", logIn}},
	{"manifest, 403", putManifest, 0, 0, answers(403), exitFailed, []string{"writing the manifest: ", "403", logIn}},
	{"manifest, dropped once", putManifest, 1, 1, drops, exitDone, nil},
	{"manifest, dropped", putManifest, 0, 0, drops, exitFailed, []string{"writing the manifest: "}},
}

// TestCutArchives cuts archives off, in a file and in a pipe that ends early: what
// is missing must be noticed wherever the cut is.
func TestCutArchives(t *testing.T) {
	f := recipe{layers: appLayers + " | big=" + noise(3, 20_000)}.build()
	for name, archive := range map[string][]byte{
		"docker-archive": f.dockerArchive("app:1"), "docker-archive of Docker 25": f.dockerArchive25("app:1"), "oci-archive": f.layout("1").tar(),
	} {
		for _, compression := range []string{"none", "gzip", "zstd"} {
			whole := compressed(compression, archive)
			t.Run(name+", "+compression, func(t *testing.T) {
				s := newSandbox(t)
				want := s.wantCode(exitDone, s.pipe(whole, "squash", "-", "oci:want:1")).out
				cuts := []int{1, 2, 511, 512, 513, len(whole) - 1025, len(whole) - 1024, len(whole) - 513, len(whole) - 512, len(whole) - 1}
				for i := range 14 {
					cuts = append(cuts, i*len(whole)/14)
				}
				for _, n := range cuts {
					cutArchive(t, s, whole[:n], strings.HasPrefix(name, "oci"), compression == "none", want)
				}
			})
		}
	}
}

// cutArchive squashes what was cut. Only of a plain tar can so much go that all of
// the image is still there; then the digest must be the right one.
func cutArchive(t *testing.T, s *sandbox, cut []byte, oci, plain bool, want string) {
	t.Helper()
	source := "docker-archive:in.tar"
	if oci {
		source = "oci-archive:in.tar"
	}
	s.write("in.tar", cut)
	in, feed, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	go func() {
		feed.Write(cut) //nolint:errcheck // slim may have seen enough
		feed.Close()
	}()
	for source, o := range map[string]outcome{source: s.run("squash", source, "oci:out:1"), "-": s.start(in, "squash", "-", "oci:out:1").wait()} {
		switch {
		case o.code == exitDone && plain && o.out == want:
			if err := os.RemoveAll("out"); err != nil {
				t.Fatal(err)
			}
		case o.code != exitFailed:
			t.Errorf("%s cut to %d bytes: exit code %d, %q", source, len(cut), o.code, o.out)
		}
	}
}

// TestFifoThatEndsEarly reads a source from a named pipe.
func TestFifoThatEndsEarly(t *testing.T) {
	archive := noisy(300_000, 200_000).dockerArchive("app:1")
	for name, n := range map[string]int{"at once": 0, "in a layer": len(archive) / 2, "in the last member": len(archive) - 1600, "at its end": len(archive)} {
		t.Run(name, func(t *testing.T) {
			s := newSandbox(t)
			if err := syscall.Mkfifo("fifo", 0o600); err != nil {
				t.Fatal(err)
			}
			r := s.start(s.stream(), "squash", "docker-archive:fifo", "docker-archive:out.tar")
			feed, err := os.OpenFile("fifo", os.O_WRONLY, 0)
			if err != nil {
				t.Fatal(err)
			}
			feed.Write(archive[:n]) //nolint:errcheck // slim may have seen enough
			feed.Close()
			want := exitFailed
			if n == len(archive) {
				want = exitDone
			}
			s.wantCode(want, r.wait())
		})
	}
}

// TestCutLayouts cuts files of a layout off, or puts what cannot be read in their
// place.
func TestCutLayouts(t *testing.T) {
	f := recipe{layers: appLayers}.build()
	for _, member := range f.layout("1") {
		spoil := map[string]func(path string) error{
			"empty":     func(path string) error { return os.Truncate(path, 0) },
			"half":      func(path string) error { return os.Truncate(path, int64(len(member.content)/2)) },
			"last byte": func(path string) error { return os.Truncate(path, int64(len(member.content)-1)) },
			"missing":   os.Remove,
			"directory": func(path string) error { return errors.Join(os.Remove(path), os.Mkdir(path, 0o755)) },
			"fifo":      func(path string) error { return errors.Join(os.Remove(path), syscall.Mkfifo(path, 0o600)) },
			"loop":      func(path string) error { return errors.Join(os.Remove(path), os.Symlink(filepath.Base(path), path)) },
		}
		for how, change := range spoil {
			t.Run(fmt.Sprintf("%.20s, %s", member.name, how), func(t *testing.T) {
				s := newSandbox(t)
				f.layout("1").save(s, "in")
				if err := change(filepath.Join("in", member.name)); err != nil {
					t.Fatal(err)
				}
				s.write("out.tar", []byte("old"))
				s.fails(exitFailed, nil, "squash", "oci:in:1", "docker-archive:out.tar")
				s.fails(exitFailed, nil, "squash", "--base-layers", "1", "oci:in:1", "oci:out:1")
			})
		}
	}
}

// TestFullDisk lets no file of the process become larger than a limit: first the
// temporary ones hit it, then the target.
func TestFullDisk(t *testing.T) {
	f := noisy(3_000_000, 300_000)
	for _, c := range []struct {
		name, source, target string
		limit                int
		text                 string
	}{
		{"contents of layers", "oci:in:1", "docker-archive:out.tar", 100_000, "slim-spool-"},
		{"contents of layers to a registry", "oci:in:1", "HUB/out:slim", 100_000, "slim-spool-"},
		{"written layer", "oci:in:1", "HUB/out:slim", 210_000, "slim-spool-"},
		{"standard input", "-", "docker-archive:out.tar", 1_000_000, "slim-spool-"},
		{"compressed archive", "docker-archive:in.tar.gz", "docker-archive:out.tar", 1_000_000, "slim-spool-"},
		{"docker-archive", "oci:in:1", "docker-archive:out.tar", 1_000_000, "writing docker-archive:out.tar"},
		{"oci", "oci:in:1", "oci:out:1", 1_000_000, "writing oci:out:1"},
		{"oci-archive", "oci:in:1", "oci-archive:out.tar:1", 1_000_000, "writing oci-archive:out.tar:1"},
		{"verified", "oci:in:1", "oci:out:1", 1_000_000, "writing oci:out:1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, h := newSandbox(t), newHub(t)
			f.layout("1").save(s, "in")
			archive := f.dockerArchive("app:1")
			s.write("in.tar.gz", compressed("gzip", archive))
			args := []string{"squash", "--base-layers", "1", c.source, strings.ReplaceAll(c.target, "HUB", h.host)}
			if c.name == "verified" {
				args = slices.Insert(args, 1, "--verify")
			}
			if strings.HasSuffix(c.target, "out.tar") {
				s.write("out.tar", []byte("old"))
			}
			before := targetOf(args)
			cmd, stderr := quickChild(t, args...)
			cmd.Env = append(cmd.Env, fmt.Sprintf("%s=%d", fileLimitEnv, c.limit))
			if c.source == "-" {
				cmd.Stdin = bytes.NewReader(archive)
			}
			out, err := cmd.Output()
			if err == nil {
				t.Fatal("the run succeeded")
			}
			o := outcome{code: cmd.ProcessState.ExitCode(), out: string(out), err: stderr.String()}
			s.wantCode(exitFailed, o)
			s.wantTexts(o, c.text, syscall.EFBIG.Error())
			s.check(args, before, o)
			h.wantNone("out", "slim")
		})
	}
}

// TestFullStandardOutput writes where there is no space.
func TestFullStandardOutput(t *testing.T) {
	s := newSandbox(t)
	noisy(3_000, 3_000).layout("1").save(s, "in")
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer full.Close()
	for _, args := range [][]string{
		{"squash", "oci:in:1", "-"}, {"squash", "oci:in:1", "oci-archive:-:1"}, {"diff", "oci:in:1", "oci:in:1"}, {"rules", "--json"}, {"version"},
	} {
		stderr := s.stream()
		code := run(args, stdio{in: s.stream(), out: full, err: stderr})
		o := s.wantCode(exitFailed, outcome{code: code, err: s.read(stderr.Name())})
		s.wantTexts(o, "slim: error: ", syscall.ENOSPC.Error())
	}
	s.checkLeftovers()
}

// quickChild is a child that the race detector does not hold back at its end.
func quickChild(t *testing.T, args ...string) (*exec.Cmd, *bytes.Buffer) {
	t.Helper()
	cmd, stderr := child(t, args...)
	cmd.Env = append(cmd.Env, "GORACE=atexit_sleep_ms=0")
	return cmd, stderr
}

// killed counts what runs that were killed left.
type killed struct {
	target                                        string
	runs, ended, nothing, old, temp, blobs, whole int
	// spools are temporary files that the kill met before they lost their name.
	spools int
	times  []time.Duration
}

// TestKill kills slim at moments that nobody chose, as the kernel does when memory
// is short: no target may have the name of an image and not be the whole image.
func TestKill(t *testing.T) {
	f := noisy(300_000, 200_000)
	var rows []killed
	for _, target := range []string{"docker-archive:out.tar", "oci:out:slim", "oci-archive:out.tar:slim", "HUB/out:slim"} {
		t.Run(target, func(t *testing.T) {
			s, h := newSandbox(t), newHub(t)
			from := newHub(t)
			source := from.push(f, "app", "1")
			from.setHook(trickle(f))
			h.setHook(h.guarded(linger))
			k := &killer{s: s, h: h, row: killed{target: target}, rand: rand.New(rand.NewPCG(1, uint64(len(target))))}
			k.args = []string{"squash", "--base-layers", "1", source, strings.ReplaceAll(target, "HUB", h.host)}
			k.learn()
			for i := range *kills {
				k.kill(i)
			}
			rows = append(rows, k.row)
		})
	}
	t.Log("\n" + killTable(rows))
}

// trickle is a hook that sends blobs in small parts, so that a run takes its time
// where bytes move, also where they move into the target.
func trickle(f *fixture) func(http.ResponseWriter, *http.Request) bool {
	return func(w http.ResponseWriter, r *http.Request) bool {
		for _, b := range f.blobs {
			if r.Method == http.MethodGet && strings.HasSuffix(r.URL.Path, sha256Of(b)) {
				w.Header().Set("Content-Length", strconv.Itoa(len(b)))
				for part := range slices.Chunk(b, len(b)/8+1) {
					w.Write(part) //nolint:errcheck // the client may be dead
					w.(http.Flusher).Flush()
					time.Sleep(5 * time.Millisecond)
				}
				return true
			}
		}
		return false
	}
}

// linger is a hook that takes its time before it takes a blob or a manifest.
func linger(_ http.ResponseWriter, r *http.Request) bool {
	if r.Method == http.MethodPatch || r.Method == http.MethodPut {
		time.Sleep(10 * time.Millisecond)
	}
	return false
}

func killTable(rows []killed) string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "target\tkilled\tended before\tleft nothing\tleft the old target\tleft a temporary file\tleft blobs without a name\tleft the whole target\tspools with a name\tmoments")
	for _, k := range rows {
		slices.Sort(k.times)
		var moments []string
		for _, d := range k.times {
			moments = append(moments, strconv.Itoa(int(d.Milliseconds())))
		}
		fmt.Fprintf(w, "%s\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%s ms\n", k.target, k.runs-k.ended, k.ended, k.nothing, k.old, k.temp, k.blobs, k.whole, k.spools, strings.Join(moments, " "))
	}
	w.Flush()
	return b.String()
}

// killer kills runs with the same arguments.
type killer struct {
	s    *sandbox
	h    *hub
	row  killed
	rand *rand.Rand
	args []string
	// line is what a whole run prints, took how long it takes.
	line string
	took time.Duration
}

// learn finds out what a run gives that nobody kills.
func (k *killer) learn() {
	k.s.t.Helper()
	for range 2 {
		start := time.Now()
		k.whole()
		k.took = time.Since(start)
		k.clear()
	}
}

// whole runs slim to its end, checks the target and that nothing else is left.
func (k *killer) whole() {
	k.s.t.Helper()
	cmd, stderr := quickChild(k.s.t, k.args...)
	out, err := cmd.Output()
	if err != nil {
		k.s.t.Fatalf("%v: %s", err, stderr)
	}
	if k.line == "" {
		k.line = string(out)
	}
	if string(out) != k.line {
		k.s.t.Errorf("a run after a kill printed %q, a run before %q", out, k.line)
	}
	k.s.checkLeftovers()
	if k.inspect() != "whole" {
		k.s.t.Errorf("after a whole run there is %s", k.inspect())
	}
}

// clear removes the target.
func (k *killer) clear() {
	k.s.t.Helper()
	if err := errors.Join(os.RemoveAll("out"), os.RemoveAll("out.tar")); err != nil {
		k.s.t.Fatal(err)
	}
	if strings.HasPrefix(k.row.target, "HUB") {
		h := newHub(k.s.t)
		h.setHook(h.guarded(linger))
		k.args[len(k.args)-1] = strings.Replace(k.args[len(k.args)-1], k.h.host, h.host, 1)
		k.line = strings.Replace(k.line, k.h.host, h.host, 1)
		k.h = h
	}
}

// old puts an older image where the target goes.
func (k *killer) old() {
	k.s.t.Helper()
	f := recipe{layers: "old=1"}.build()
	switch {
	case strings.HasPrefix(k.row.target, "docker-archive"):
		k.s.write("out.tar", f.dockerArchive("old:1"))
	case strings.HasPrefix(k.row.target, "oci-archive"):
		k.s.write("out.tar", f.layout("slim").tar())
	case strings.HasPrefix(k.row.target, "oci"):
		f.layout("slim").save(k.s, "out")
	default:
		k.h.push(f, "out", "slim")
	}
}

// kill kills one run and has another complete what it left.
func (k *killer) kill(i int) {
	k.s.t.Helper()
	replaces := i%4 == 3
	if replaces {
		k.old()
	}
	cmd, _ := quickChild(k.s.t, k.args...)
	start := time.Now()
	if err := cmd.Start(); err != nil {
		k.s.t.Fatal(err)
	}
	// Half of the moments are after the target was begun, which is a short part.
	if i%2 == 1 {
		k.awaitTarget(cmd)
		time.Sleep(time.Duration(k.rand.Int64N(int64(k.took / 2))))
	} else {
		time.Sleep(time.Duration(k.rand.Int64N(int64(k.took))))
	}
	k.row.times = append(k.row.times, time.Since(start))
	cmd.Process.Kill() //nolint:errcheck // it may have ended
	err := cmd.Wait()
	k.row.runs++
	if err == nil {
		k.row.ended++
	} else if status := cmd.ProcessState.Sys().(syscall.WaitStatus); status.Signal() != syscall.SIGKILL {
		k.s.t.Fatalf("the run ended by itself: %v", err)
	}
	k.count(replaces)
	k.whole()
	k.clear()
}

// awaitTarget waits until the run has begun to write its target.
func (k *killer) awaitTarget(cmd *exec.Cmd) {
	for range 300 {
		if len(k.leftovers()) > 0 || k.uploads() || syscall.Kill(cmd.Process.Pid, 0) != nil {
			return
		}
		time.Sleep(time.Millisecond)
	}
}

// leftovers are the temporary files beside the target.
func (k *killer) leftovers() []string {
	var found []string
	filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error { //nolint:errcheck // files come and go
		if err == nil && strings.HasPrefix(d.Name(), ".slim-") {
			found = append(found, path)
		}
		return nil
	})
	return found
}

func (k *killer) uploads() bool {
	k.h.mu.Lock()
	defer k.h.mu.Unlock()
	return slices.ContainsFunc(k.h.requests, func(r string) bool { return strings.HasPrefix(r, "PATCH ") })
}

// count looks at what a killed run left.
func (k *killer) count(replaces bool) {
	k.s.t.Helper()
	if len(k.leftovers()) > 0 {
		k.row.temp++
	}
	entries, err := os.ReadDir(k.s.tmp)
	if err != nil {
		k.s.t.Fatal(err)
	}
	for _, e := range entries {
		k.row.spools++
		if err := os.Remove(filepath.Join(k.s.tmp, e.Name())); err != nil {
			k.s.t.Fatal(err)
		}
	}
	switch state := k.inspect(); {
	case state == "whole":
		k.row.whole++
	case state == "old" && replaces:
		k.row.old++
	case state == "blobs" && !replaces:
		k.row.blobs++
	case state == "nothing" && !replaces:
		k.row.nothing++
	default:
		k.s.t.Errorf("the killed run left %s where there was an older image: %t", state, replaces)
	}
}

// inspect reads the target and tells whether it is "whole", the "old" one, only
// "blobs" or "nothing".
func (k *killer) inspect() string {
	k.s.t.Helper()
	got, state := k.target()
	if got == nil {
		return state
	}
	digest := k.line[strings.LastIndex(k.line, "sha256:"):]
	if got.digest()+"\n" == digest {
		got.wantLayers(k.s.t, got.listings(k.s.t)...)
		return "whole"
	}
	if listing := strings.Join(got.listings(k.s.t), ""); listing == "old=1" {
		return "old"
	}
	return "another image: " + got.digest()
}

// target reads the image that the target names, or tells what there is instead.
func (k *killer) target() (*stored, string) {
	k.s.t.Helper()
	if strings.HasPrefix(k.row.target, "HUB") {
		if manifest, _ := k.h.get("out/manifests/slim"); manifest == nil {
			if k.uploads() {
				return nil, "blobs"
			}
			return nil, "nothing"
		}
		return k.h.pull("out", "slim"), ""
	}
	ref := targetOf(k.args)
	if !ref.existed {
		return nil, "nothing"
	}
	switch {
	case strings.HasPrefix(k.row.target, "docker-archive"):
		return ofDockerArchive(k.s.t, ref.content), ""
	case strings.HasPrefix(k.row.target, "oci-archive"):
		return ofOCIArchive(k.s.t, ref.content, "slim"), ""
	}
	k.wantIntact(filepath.Join(ref.path, "blobs", "sha256"))
	if _, err := os.Stat(filepath.Join(ref.path, "index.json")); err != nil {
		return nil, "blobs"
	}
	return k.s.layoutImage(ref.path, "slim"), ""
}

// wantIntact checks that every blob of a layout has the content that its name says.
func (k *killer) wantIntact(dir string) {
	k.s.t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		k.s.t.Fatal(err)
	}
	for _, e := range entries {
		if got := hexOf([]byte(k.s.read(filepath.Join(dir, e.Name())))); got != e.Name() && !strings.HasPrefix(e.Name(), ".slim-") {
			k.s.t.Errorf("the blob %s has the digest %s", e.Name(), got)
		}
	}
}
