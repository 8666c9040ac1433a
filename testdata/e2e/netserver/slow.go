package main

import (
	"io"
	"net/http"
	"net/http/httputil"
	"strings"
	"time"
)

// slowly passes requests on and prints what they were: "METHOD STATUS PATH".
func slowly(to string, rate int, delay time.Duration) http.Handler {
	return &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.Out.URL.Scheme, r.Out.URL.Host = "http", to
			if r.Out.Body != nil && rate > 0 {
				r.Out.Body = &slowBody{ReadCloser: r.Out.Body, rate: rate}
			}
		},
		ModifyResponse: func(resp *http.Response) error {
			say("%s %d %s", resp.Request.Method, resp.StatusCode, resp.Request.URL.Path)
			if resp.Request.Method == http.MethodPost || strings.Contains(resp.Request.URL.Path, "/manifests/") {
				time.Sleep(delay)
			}
			if rate > 0 {
				resp.Body = &slowBody{ReadCloser: resp.Body, rate: rate}
			}
			return nil
		},
	}
}

// slowBody gives so many bytes per second.
type slowBody struct {
	io.ReadCloser
	rate  int
	begin time.Time
	done  int
}

// Read implements io.Reader.
func (b *slowBody) Read(p []byte) (int, error) {
	if b.begin.IsZero() {
		b.begin = time.Now()
	}
	n, err := b.ReadCloser.Read(p[:min(len(p), 64<<10)])
	b.done += n
	time.Sleep(time.Until(b.begin.Add(time.Duration(float64(b.done) / float64(b.rate) * float64(time.Second)))))
	return n, err
}
