package main

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/types"
)

var signalCodes = []struct {
	signal syscall.Signal
	code   int
	text   string
}{
	{syscall.SIGINT, exitInterrupted, "slim: error: interrupted\n"},
	{syscall.SIGTERM, exitTerminated, "slim: error: terminated\n"},
}

// kill sends this process a signal, which slim handles; should it not, the test
// fails and does not end.
func kill(t *testing.T, sig syscall.Signal) {
	t.Helper()
	caught := make(chan os.Signal, 1)
	signal.Notify(caught, sig)
	t.Cleanup(func() { signal.Stop(caught) })
	if err := syscall.Kill(os.Getpid(), sig); err != nil {
		t.Fatal(err)
	}
	<-caught
}

// wantKilled checks how a run ended that a signal cancelled.
func wantKilled(t *testing.T, s *sandbox, o outcome, code int, text string) {
	t.Helper()
	s.wantCode(code, o)
	if !strings.HasSuffix(o.err, text) {
		t.Errorf("standard error does not end in %q:\n%s", text, o.err)
	}
}

// TestSignalWhileStdinBlocks holds a pipe open from which nothing more comes.
func TestSignalWhileStdinBlocks(t *testing.T) {
	archive := recipe{layers: "f=" + strings.Repeat("0123456789", 100_000) + " | g=1"}.build().dockerArchive("app:1")
	for _, c := range signalCodes {
		for _, target := range []string{"docker-archive:out.tar", "oci:out:1", "-"} {
			t.Run(fmt.Sprintf("%s, target %s", c.signal, target), func(t *testing.T) {
				s := newSandbox(t)
				in, feed, err := os.Pipe()
				if err != nil {
					t.Fatal(err)
				}
				defer in.Close()
				defer feed.Close()
				r := s.start(in, "squash", "-", target)
				// The pipe does not hold this much: the run has begun to read.
				if _, err := feed.Write(archive[:len(archive)-5000]); err != nil {
					t.Fatal(err)
				}
				kill(t, c.signal)
				wantKilled(t, s, r.wait(), c.code, c.text)
			})
		}
	}
}

// TestSignalWhileRegistryBlocks holds back the answer to one request.
func TestSignalWhileRegistryBlocks(t *testing.T) {
	f := recipe{layers: baseLayers + " | a=1 | b=2", family: types.DockerManifestSchema2}.build()
	read := func(n int) string { return "GET /v2/app/blobs/" + sha256Of(f.blobs[n]) }
	for _, c := range []struct {
		name, block string
		// nth is which request is held back, counting from 1.
		nth    int
		target string
	}{
		{"manifest", "GET /v2/app/manifests/1", 1, "oci:out:1"},
		{"config", "GET /v2/app/blobs/" + sha256Of(f.config), 1, "oci:out:1"},
		{"layer that is squashed", read(1), 1, "docker-archive:out.tar"},
		{"kept layer while it is copied to an archive", read(0), 2, "docker-archive:out.tar"},
		{"kept layer while it is copied to a layout", read(0), 2, "oci:out:1"},
		{"kept layer while it is copied to a layout archive", read(0), 2, "oci-archive:out.tar"},
		{"upload of a blob", "PATCH /v2/other/blobs/", 1, "HUB/other:slim"},
		{"writing of the manifest", "PUT /v2/other/manifests/slim", 1, "HUB/other:slim"},
	} {
		for _, sig := range signalCodes {
			t.Run(fmt.Sprintf("%s, %s", c.name, sig.signal), func(t *testing.T) {
				s, h := newSandbox(t), newHub(t)
				source := h.push(f, "app", "1")
				reached, release := h.block(c.block, c.nth)
				defer release()
				r := s.start(s.stream(), "squash", "--base-layers", "1", source, strings.ReplaceAll(c.target, "HUB", h.host))
				select {
				case <-reached:
				case code := <-r.code:
					t.Fatalf("the run ended with %d before the request %s:\n%s", code, c.block, s.read(r.err.Name()))
				}
				kill(t, sig.signal)
				wantKilled(t, s, r.wait(), sig.code, sig.text)
				release()
				h.setHook(nil)
				h.wantNone("other", "slim")
			})
		}
	}
}

// block holds back the nth request that begins with a prefix, until it is
// released or the client gives up; reached is closed when it came.
func (h *hub) block(prefix string, nth int) (reached chan struct{}, release func()) {
	reached, gone := make(chan struct{}), make(chan struct{})
	var mu sync.Mutex
	n := 0
	h.setHook(func(_ http.ResponseWriter, r *http.Request) bool {
		if !strings.HasPrefix(r.Method+" "+r.URL.Path, prefix) {
			return false
		}
		mu.Lock()
		n++
		mine := n == nth
		mu.Unlock()
		if !mine {
			return false
		}
		close(reached)
		select {
		case <-r.Context().Done():
		case <-gone:
		}
		return true
	})
	return reached, sync.OnceFunc(func() { close(gone) })
}

// TestProcess runs slim as a process: there, standard input is no file that a
// read deadline could wake.
func TestProcess(t *testing.T) {
	archive := recipe{layers: appLayers}.build().dockerArchive("app:1")
	t.Run("pipes", func(t *testing.T) {
		s := newSandbox(t)
		cmd, stderr := child(t, "squash", "-", "-")
		cmd.Stdin = bytes.NewReader(archive)
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("%v: %s", err, stderr)
		}
		ofDockerArchive(t, out).wantLayers(t, squashed)
		s.checkLeftovers()
	})
	for _, c := range signalCodes {
		t.Run(c.signal.String(), func(t *testing.T) {
			s := newSandbox(t)
			cmd, stderr := child(t, "squash", "-", "docker-archive:out.tar")
			feed, err := cmd.StdinPipe()
			if err != nil {
				t.Fatal(err)
			}
			defer feed.Close()
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			if _, err := feed.Write(append(bytes.Clone(archive[:len(archive)-1024]), make([]byte, 1<<20)...)); err != nil {
				t.Fatal(err)
			}
			if err := cmd.Process.Signal(c.signal); err != nil {
				t.Fatal(err)
			}
			if err := cmd.Wait(); err == nil {
				t.Error("the process succeeded")
			}
			if code := cmd.ProcessState.ExitCode(); code != c.code || stderr.String() != c.text {
				t.Errorf("exit code %d, standard error %q", code, stderr)
			}
			s.check(cmd.Args[1:], target{path: "out.tar"}, outcome{code: c.code, err: stderr.String()})
		})
	}
}

// child prepares a process that is slim; it ends with the test.
func child(t *testing.T, args ...string) (*exec.Cmd, *bytes.Buffer) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, exe, args...)
	cmd.Env = append(os.Environ(), childEnv+"=1")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	return cmd, &stderr
}
