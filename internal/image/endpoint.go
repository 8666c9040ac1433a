package image

import (
	"cmp"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/docker/cli/cli/connhelper"
)

// Where an engine is when nothing says otherwise, and the bounds on looking.
const (
	defaultEngine = "unix:///var/run/docker.sock"
	// defaultContext is the context that stands for the environment.
	defaultContext = "default"
	// maxEngineConfig is the size in bytes up to which a file of docker's
	// configuration is read.
	maxEngineConfig = 4 << 20
	engineDial      = 30 * time.Second
)

// endpoint is where an engine answers. It is found as docker finds it, see
// https://docs.docker.com/reference/cli/docker/#environment-variables:
// DOCKER_HOST, else the context that DOCKER_CONTEXT names, else the current
// one of config.json, else the socket of a local engine.
type endpoint struct {
	// said tells where the address was found, for a hint.
	said string
	// socket is the path of a Unix socket; empty for other addresses.
	socket string
	// base is the start of the engine's URLs, without a version.
	base string
	// transport reaches the engine.
	transport *http.Transport
}

// findEngine finds the endpoint and connects to nothing.
func findEngine() (*endpoint, error) {
	dir, err := dockerConfigDir()
	if err != nil {
		return nil, err
	}
	if host := os.Getenv("DOCKER_HOST"); host != "" {
		return environmentEndpoint(host, "DOCKER_HOST is", dir)
	}
	name := os.Getenv("DOCKER_CONTEXT")
	if name == "" {
		if name, err = currentContext(dir); err != nil {
			return nil, err
		}
	}
	if name == "" || name == defaultContext {
		return environmentEndpoint(defaultEngine, "without DOCKER_HOST and a docker context it is", dir)
	}
	return contextEndpoint(name, dir)
}

// dockerConfigDir is the folder of docker's configuration.
func dockerConfigDir() (string, error) {
	if dir := os.Getenv("DOCKER_CONFIG"); dir != "" {
		return dir, nil
	}
	home, err := os.UserHomeDir()
	if err != nil && os.Getenv("DOCKER_HOST") == "" {
		return "", &HintError{Err: fmt.Errorf("finding docker's configuration: %w", err), Hint: "DOCKER_HOST names the engine"}
	}
	return filepath.Join(home, ".docker"), nil
}

// currentContext reads the name of the current context; empty if there is none.
func currentContext(dir string) (string, error) {
	raw, err := readConfigFile(filepath.Join(dir, "config.json"))
	if raw == nil || err != nil {
		return "", err
	}
	var config struct {
		CurrentContext string `json:"currentContext"`
	}
	if err := json.Unmarshal(raw, &config); err != nil {
		return "", fmt.Errorf("reading %q: %w", filepath.Join(dir, "config.json"), err)
	}
	return config.CurrentContext, nil
}

// readConfigFile returns the content of a small file, nil where it is not.
func readConfigFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, maxEngineConfig+1))
	if err != nil {
		return nil, err
	}
	if len(raw) > maxEngineConfig {
		return nil, fmt.Errorf("reading %q: more than %d bytes", path, maxEngineConfig)
	}
	return raw, nil
}

// environmentEndpoint is that of a host which no context describes. As for
// docker, DOCKER_CERT_PATH alone does not turn TLS on.
func environmentEndpoint(host, said, dir string) (*endpoint, error) {
	verify := os.Getenv("DOCKER_TLS_VERIFY") != ""
	var config *tls.Config
	if strings.HasPrefix(host, "tcp:") && (verify || os.Getenv("DOCKER_TLS") != "") {
		var err error
		if config, err = tlsConfig(cmp.Or(os.Getenv("DOCKER_CERT_PATH"), dir), !verify); err != nil {
			return nil, err
		}
	}
	return newEndpoint(host, said, config)
}

// contextEndpoint is that of a docker context: its metadata and its TLS files
// are in folders named by the digest of its name.
func contextEndpoint(name, dir string) (*endpoint, error) {
	sum := sha256.Sum256([]byte(name))
	id := hex.EncodeToString(sum[:])
	path := filepath.Join(dir, "contexts", "meta", id, "meta.json")
	raw, err := readConfigFile(path)
	if err != nil {
		return nil, err
	}
	if raw == nil {
		return nil, &HintError{Err: fmt.Errorf("there is no docker context %q", name), Hint: "docker context ls lists them; DOCKER_CONTEXT selects one, DOCKER_HOST goes before it"}
	}
	var meta struct {
		Endpoints map[string]struct {
			Host          string
			SkipTLSVerify bool
		}
	}
	if err := json.Unmarshal(raw, &meta); err != nil {
		return nil, fmt.Errorf("reading %q: %w", path, err)
	}
	docker, ok := meta.Endpoints["docker"]
	if !ok {
		return nil, fmt.Errorf("reading %q: the context has no endpoint of an engine", path)
	}
	var config *tls.Config
	if files := filepath.Join(dir, "contexts", "tls", id, "docker"); docker.SkipTLSVerify || isDir(files) {
		if config, err = tlsConfig(files, docker.SkipTLSVerify); err != nil {
			return nil, err
		}
	}
	return newEndpoint(cmp.Or(docker.Host, defaultEngine), fmt.Sprintf("the docker context %q says", name), config)
}

func isDir(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

// tlsConfig reads those of ca.pem, cert.pem and key.pem that are in a folder.
// Without ca.pem the system's authorities count.
func tlsConfig(dir string, insecure bool) (*tls.Config, error) {
	var pem [3][]byte
	for i, file := range []string{"ca.pem", "cert.pem", "key.pem"} {
		raw, err := readConfigFile(filepath.Join(dir, file))
		if err != nil {
			return nil, fmt.Errorf("reading the engine's certificates: %w", err)
		}
		pem[i] = raw
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: insecure}
	if pem[0] != nil {
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(pem[0]) {
			return nil, fmt.Errorf("reading the engine's certificates: %q holds none", filepath.Join(dir, "ca.pem"))
		}
	}
	if pem[1] != nil || pem[2] != nil {
		pair, err := tls.X509KeyPair(pem[1], pem[2])
		if err != nil {
			return nil, fmt.Errorf("reading the engine's certificates in %q: %w", dir, err)
		}
		config.Certificates = []tls.Certificate{pair}
	}
	return config, nil
}

// newEndpoint reads an address. Its password, if it has one, gets into no
// message; so an address that does not parse is not shown at all.
func newEndpoint(host, said string, config *tls.Config) (*endpoint, error) {
	if !strings.Contains(host, "://") {
		host = "tcp://" + host
	}
	u, err := url.Parse(host)
	if err != nil {
		return nil, &HintError{Err: errors.New(said + " no URL"), Hint: "write unix:///PATH, tcp://HOST:PORT or ssh://USER@HOST"}
	}
	e := &endpoint{said: fmt.Sprintf("%s %q", said, u.Redacted()), base: "http://docker", transport: &http.Transport{
		DisableCompression: true, MaxResponseHeaderBytes: 1 << 20,
	}}
	switch u.Scheme {
	case "unix":
		e.socket = strings.TrimPrefix(host, "unix://")
		e.transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", e.socket)
		}
	case "tcp":
		e.overTCP(u, config)
	case "ssh":
		helper, err := connhelper.GetConnectionHelper(host)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", e.said, err)
		}
		e.transport.DialContext = helper.Dialer
	default:
		return nil, &HintError{
			Err:  fmt.Errorf("%s, and %.20q is no way to an engine from here", e.said, u.Scheme+"://"),
			Hint: "unix://, tcp:// and ssh:// are; or pipe the image: docker save NAME | slim squash - TARGET",
		}
	}
	return e, nil
}

func (e *endpoint) overTCP(u *url.URL, config *tls.Config) {
	scheme, port := "http", "2375"
	if config != nil {
		scheme, port = "https", "2376"
	}
	address := net.JoinHostPort(cmp.Or(u.Hostname(), "localhost"), cmp.Or(u.Port(), port))
	e.base = scheme + "://" + address + strings.TrimSuffix(u.EscapedPath(), "/")
	e.transport.TLSClientConfig, e.transport.TLSHandshakeTimeout = config, engineDial
	e.transport.Proxy = http.ProxyFromEnvironment
	e.transport.DialContext = (&net.Dialer{Timeout: engineDial}).DialContext
}
