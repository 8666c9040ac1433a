package image

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"os"
	"regexp"
	"strings"
	"sync"

	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

// maxRedirects is how many redirects are followed for one request.
const maxRedirects = 10

// insecure tells whether TLS of a host, given with its port, is not required.
func (o Options) insecure(host string) bool {
	for _, h := range o.Insecure {
		bare, _, _ := strings.Cut(host, ":")
		if h == "*" || strings.EqualFold(h, host) || strings.EqualFold(h, bare) {
			return true
		}
	}
	return false
}

// roundTripper is Options.Transport, or a transport with the options'
// certificates, below everything that knows of registries.
func (o Options) roundTripper() (http.RoundTripper, error) {
	rt := o.Transport
	if rt == nil {
		var err error
		if rt, err = o.tlsTransport(); err != nil {
			return nil, err
		}
	}
	return transport.NewUserAgent(repeatable{rt}, o.UserAgent), nil
}

// tlsTransport sends requests with the certificates of the options.
func (o Options) tlsTransport() (http.RoundTripper, error) {
	secure := http.DefaultTransport.(*http.Transport).Clone()
	// Nearly all requests go to one host.
	secure.MaxIdleConnsPerHost = secure.MaxIdleConns / 2
	if o.CAFile != "" {
		pem, err := os.ReadFile(o.CAFile)
		if err != nil {
			return nil, fmt.Errorf("reading certificates: %w", err)
		}
		pool, err := x509.SystemCertPool()
		if err != nil {
			pool = x509.NewCertPool()
		}
		if !pool.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("reading certificates: %q holds none in PEM form", o.CAFile)
		}
		secure.TLSClientConfig = &tls.Config{RootCAs: pool}
	}
	if len(o.Insecure) == 0 {
		return secure, nil
	}
	insecure := secure.Clone()
	insecure.TLSClientConfig = &tls.Config{InsecureSkipVerify: true} //nolint:gosec // asked for by --insecure
	return byHost{secure: secure, insecure: insecure, o: o}, nil
}

// byHost sends requests to hosts that need no verified TLS another way.
type byHost struct {
	secure, insecure http.RoundTripper
	o                Options
}

// RoundTrip implements http.RoundTripper.
func (t byHost) RoundTrip(req *http.Request) (*http.Response, error) {
	if t.o.insecure(req.URL.Host) {
		return t.insecure.RoundTrip(req)
	}
	return t.secure.RoundTrip(req)
}

// certificates remembers that a certificate was refused.
type certificates struct {
	inner   http.RoundTripper
	mu      sync.Mutex
	refused error
}

// RoundTrip implements http.RoundTripper.
func (t *certificates) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := t.inner.RoundTrip(req)
	if is[*tls.CertificateVerificationError](err) {
		t.mu.Lock()
		t.refused = err
		t.mu.Unlock()
	}
	return resp, err
}

// err is why a certificate was refused; nil if none was.
func (t *certificates) err() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.refused
}

// errSpent tells that a request was to be sent again whose body is gone.
var errSpent = errors.New("the registry refused the token while a body was being sent")

// repeatable stands below the transport that, when a token has expired, gets a
// new one and sends the same request again, with a body that it has read: a
// body in memory is begun anew, one that is a stream is refused.
type repeatable struct{ inner http.RoundTripper }

// RoundTrip implements http.RoundTripper.
func (t repeatable) RoundTrip(req *http.Request) (*http.Response, error) {
	if stream, ok := req.Body.(*streamBody); ok && !stream.begin() {
		return nil, errSpent
	}
	if req.GetBody != nil && req.Body != nil {
		body, err := req.GetBody()
		if err != nil {
			return nil, err
		}
		req = req.Clone(req.Context())
		req.Body = body
	}
	return t.inner.RoundTrip(req)
}

// checkRedirect bounds redirects and refuses those into internal networks.
func checkRedirect(req *http.Request, via []*http.Request) error {
	if len(via) >= maxRedirects {
		return final(fmt.Errorf("more than %d redirects", maxRedirects))
	}
	return checkHop(via[0].URL.Hostname(), req.URL.Hostname())
}

// checkHop refuses to be led from one host to an address of an internal
// network, such as the metadata service of a cloud. A host may lead to itself.
func checkHop(from, to string) error {
	if strings.EqualFold(from, to) || !internalAddress(to) {
		return nil
	}
	return final(fmt.Errorf("%q leads to %q, which is an address of an internal network", from, to))
}

// legacyIPv4 is an address as inet_aton(3) takes it, such as 127.1.
var legacyIPv4 = regexp.MustCompile(`^(0[xX][0-9a-fA-F]*|[0-9]+)(\.(0[xX][0-9a-fA-F]*|[0-9]+)){0,3}$`)

// internalAddress tells whether a host is written as an address that is not
// of the public Internet.
func internalAddress(host string) bool {
	host, _, _ = strings.Cut(host, "%")
	a, err := netip.ParseAddr(host)
	if err != nil {
		return legacyIPv4.MatchString(host)
	}
	a = a.Unmap()
	return a.IsLoopback() || a.IsPrivate() || a.IsLinkLocalUnicast() || a.IsLinkLocalMulticast() || a.IsUnspecified()
}
