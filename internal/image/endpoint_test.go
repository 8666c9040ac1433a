package image

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"io"
	"log"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// engineEnvironment are the variables that say where an engine is.
var engineEnvironment = []string{"DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_TLS", "DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH"}

// setEngine sets the variables NAME=VALUE and unsets the others.
func setEngine(t *testing.T, dir string, set ...string) {
	t.Helper()
	for _, name := range engineEnvironment {
		t.Setenv(name, "")
	}
	t.Setenv("DOCKER_CONFIG", dir)
	for _, s := range set {
		name, value, _ := strings.Cut(s, "=")
		t.Setenv(name, value)
	}
}

// contextFiles are the files of a docker context.
func contextFiles(name, meta string, tls ...tarMember) []tarMember {
	sum := sha256.Sum256([]byte(name))
	id := hex.EncodeToString(sum[:])
	files := []tarMember{tarFile("contexts/meta/"+id+"/meta.json", meta)}
	for _, f := range tls {
		files = append(files, tarFile("contexts/tls/"+id+"/docker/"+f.Name, f.content))
	}
	return files
}

func TestFindEngine(t *testing.T) {
	remote := contextFiles("remote", `{"Name":"remote","Metadata":{},"Endpoints":{"docker":{"Host":"tcp://10.0.0.1:2376/base/","SkipTLSVerify":true}}}`)
	local := contextFiles("local", `{"Endpoints":{"docker":{"Host":"unix:///run/user/1000/docker.sock"}}}`)
	plain := contextFiles("plain", `{"Endpoints":{"docker":{"Host":"tcp://10.0.0.1:2375"}}}`)
	empty := contextFiles("empty", `{"Endpoints":{"docker":{}}}`)
	current := func(name string, files ...tarMember) []tarMember {
		return append(files, tarFile("config.json", `{"auths":{},"currentContext":"`+name+`"}`))
	}
	for _, tc := range []struct {
		name         string
		files        []tarMember
		env          []string
		socket, base string
		said         string
	}{
		{"nothing", nil, nil, "/var/run/docker.sock", "http://docker", "without DOCKER_HOST"},
		{"no current context", []tarMember{tarFile("config.json", "{}")}, nil, "/var/run/docker.sock", "http://docker", "without DOCKER_HOST"},
		{"DOCKER_HOST", nil, []string{"DOCKER_HOST=unix:///x.sock"}, "/x.sock", "http://docker", `DOCKER_HOST is "unix:///x.sock"`},
		{"TCP", nil, []string{"DOCKER_HOST=tcp://h"}, "", "http://h:2375", "DOCKER_HOST is"},
		{"TCP on a port", nil, []string{"DOCKER_HOST=tcp://h:99"}, "", "http://h:99", "DOCKER_HOST is"},
		{"no scheme", nil, []string{"DOCKER_HOST=h:99"}, "", "http://h:99", "DOCKER_HOST is"},
		{"IPv6", nil, []string{"DOCKER_HOST=tcp://[::1]"}, "", "http://[::1]:2375", "DOCKER_HOST is"},
		{"TLS", nil, []string{"DOCKER_HOST=tcp://h", "DOCKER_TLS_VERIFY=1"}, "", "https://h:2376", "DOCKER_HOST is"},
		{"TLS that is not verified", nil, []string{"DOCKER_HOST=tcp://h", "DOCKER_TLS=1"}, "", "https://h:2376", "DOCKER_HOST is"},
		{"certificates alone are no TLS", nil, []string{"DOCKER_HOST=tcp://h", "DOCKER_CERT_PATH=/none"}, "", "http://h:2375", "DOCKER_HOST is"},
		{"TLS and a socket", nil, []string{"DOCKER_HOST=unix:///x", "DOCKER_TLS_VERIFY=1"}, "/x", "http://docker", "DOCKER_HOST is"},
		{"password", nil, []string{"DOCKER_HOST=tcp://me:secret@h"}, "", "http://h:2375", `"tcp://me:xxxxx@h"`},
		{"ssh", nil, []string{"DOCKER_HOST=ssh://me@h"}, "", "http://docker", `DOCKER_HOST is "ssh://me@h"`},
		{"current context", current("local", local...), nil, "/run/user/1000/docker.sock", "http://docker", `the docker context "local" says "unix://`},
		{"context with TLS", current("remote", remote...), nil, "", "https://10.0.0.1:2376/base", `the docker context "remote" says`},
		{"context without TLS", current("plain", plain...), []string{"DOCKER_TLS_VERIFY=1"}, "", "http://10.0.0.1:2375", `the docker context "plain" says`},
		{"context without a host", current("empty", empty...), nil, "/var/run/docker.sock", "http://docker", `the docker context "empty" says`},
		{"DOCKER_CONTEXT before the current one", current("remote", append(local, remote...)...), []string{"DOCKER_CONTEXT=local"}, "/run/user/1000/docker.sock", "http://docker", `the docker context "local" says`},
		{"DOCKER_CONTEXT is the default", current("remote", remote...), []string{"DOCKER_CONTEXT=default"}, "/var/run/docker.sock", "http://docker", "without DOCKER_HOST"},
		{"DOCKER_HOST before both", current("none"), []string{"DOCKER_HOST=unix:///x", "DOCKER_CONTEXT=none"}, "/x", "http://docker", "DOCKER_HOST is"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			setEngine(t, writeTree(t, tc.files...), tc.env...)
			at, err := findEngine()
			if err != nil {
				t.Fatal(err)
			}
			if at.socket != tc.socket || at.base != tc.base || !strings.Contains(at.said, tc.said) {
				t.Errorf("socket %q, base %q, said %q; want %q, %q, %q", at.socket, at.base, at.said, tc.socket, tc.base, tc.said)
			}
		})
	}
}

func TestFindEngineRefused(t *testing.T) {
	for _, tc := range []struct {
		name   string
		files  []tarMember
		env    []string
		err    string
		hinted bool
	}{
		{"no such context", nil, []string{"DOCKER_CONTEXT=x\ny"}, `there is no docker context "x\ny"`, true},
		{"config that is no JSON", []tarMember{tarFile("config.json", "{")}, nil, "config.json", false},
		{"large config", []tarMember{tarFile("config.json", strings.Repeat(" ", maxEngineConfig+1))}, nil, "more than 4194304 bytes", false},
		{"context that is no JSON", contextFiles("c", "{"), []string{"DOCKER_CONTEXT=c"}, "meta.json", false},
		{"context of something else", contextFiles("c", `{"Endpoints":{"kubernetes":{}}}`), []string{"DOCKER_CONTEXT=c"}, "no endpoint of an engine", false},
		{"context with bad certificates", contextFiles("c", `{"Endpoints":{"docker":{"Host":"tcp://h"}}}`, tarFile("ca.pem", "x")), []string{"DOCKER_CONTEXT=c"}, "ca.pem\" holds none", false},
		{"certificate without a key", []tarMember{tarFile("cert.pem", "x")}, []string{"DOCKER_HOST=tcp://h", "DOCKER_TLS_VERIFY=1"}, "reading the engine's certificates", false},
		{"named pipe", nil, []string{"DOCKER_HOST=npipe:////./pipe/docker_engine"}, "no way to an engine from here", true},
		{"password that does not parse", nil, []string{"DOCKER_HOST=tcp://me:sec ret@h"}, "DOCKER_HOST is no URL", true},
		{"ssh with a password", nil, []string{"DOCKER_HOST=ssh://me:secret@h"}, "password is not supported", false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			setEngine(t, writeTree(t, tc.files...), tc.env...)
			_, err := findEngine()
			wantError(t, err, tc.err, tc.hinted)
			if strings.Contains(err.Error(), "sec") {
				t.Errorf("the error tells the password: %v", err)
			}
		})
	}
}

// TestEngineTLS reads an image over TLS, with an authority that is known, that
// is not, and that is not asked about.
func TestEngineTLS(t *testing.T) {
	f := newFixture("linux/amd64", asTar, "a")
	e := &fakeEngine{archives: map[string][]tarMember{}, tags: map[string]string{}}
	e.put(f, "app:1")
	server := httptest.NewUnstartedServer(e)
	server.Config.ErrorLog = log.New(io.Discard, "", 0) // of handshakes that are to fail
	server.StartTLS()
	defer server.Close()
	address := strings.TrimPrefix(server.URL, "https://")
	ca := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}))
	certs := writeTree(t, tarFile("ca.pem", ca))
	meta := `{"Endpoints":{"docker":{"Host":"tcp://` + address + `"}}}`
	plain := httptest.NewServer(e)
	defer plain.Close()
	for _, tc := range []struct {
		name, err string
		files     []tarMember
		env       []string
	}{
		{"known authority", "", nil, []string{"DOCKER_HOST=tcp://" + address, "DOCKER_TLS_VERIFY=1", "DOCKER_CERT_PATH=" + certs}},
		{"certificates beside config.json", "", []tarMember{tarFile("ca.pem", ca)}, []string{"DOCKER_HOST=tcp://" + address, "DOCKER_TLS_VERIFY=1"}},
		{"not verified", "", nil, []string{"DOCKER_HOST=tcp://" + address, "DOCKER_TLS=1"}},
		{"context", "", contextFiles("c", meta, tarFile("ca.pem", ca)), []string{"DOCKER_CONTEXT=c"}},
		{"unknown authority", "DOCKER_CERT_PATH", nil, []string{"DOCKER_HOST=tcp://" + address, "DOCKER_TLS_VERIFY=1"}},
		{"engine with TLS only", "set DOCKER_TLS_VERIFY=1", nil, []string{"DOCKER_HOST=tcp://" + address}},
		{"engine without TLS", "unset DOCKER_TLS_VERIFY", nil, []string{"DOCKER_HOST=tcp://" + plain.Listener.Addr().String(), "DOCKER_TLS=1"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			setEngine(t, writeTree(t, tc.files...), tc.env...)
			img, err := openImage(t, daemonRef(t, "app:1"), "", Options{})
			if tc.err == "" {
				if err != nil {
					t.Fatal(err)
				}
				wantContent(t, img, f.config, f.blobs)
				return
			}
			var hint *HintError
			if !errors.As(err, &hint) || !strings.Contains(hint.Hint, tc.err) {
				t.Errorf("error %v, want one with the hint %q", err, tc.err)
			}
		})
	}
}

// TestEngineOverSSH runs a command in place of ssh that fails: what it prints
// is quoted.
func TestEngineOverSSH(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "ssh"), []byte("#!/bin/sh\nprintf 'denied\\033[31m' >&2\nexit 255\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	setEngine(t, dir, "DOCKER_HOST=ssh://me@h")
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	_, err := Open(t.Context(), daemonRef(t, "app:1"), Options{})
	wantError(t, err, `denied\x1b[31m`, true)
}
