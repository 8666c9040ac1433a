package main

import (
	"encoding/base64"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
)

// proxy is a forward proxy that finds all hosts at one address, and prints
// "METHOD HOST:PORT" of each request.
type proxy struct {
	to, credentials string
}

// ServeHTTP implements http.Handler.
func (p *proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	want := "Basic " + base64.StdEncoding.EncodeToString([]byte(p.credentials))
	if p.credentials != "" && r.Header.Get("Proxy-Authorization") != want {
		w.Header().Set("Proxy-Authenticate", "Basic")
		http.Error(w, "the proxy wants a password", http.StatusProxyAuthRequired)
		return
	}
	say("%s %s", r.Method, r.Host)
	_, port, err := net.SplitHostPort(r.Host)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	address := net.JoinHostPort(p.to, port)
	if r.Method == http.MethodConnect {
		tunnel(w, address)
		return
	}
	pass := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.Out.URL.Scheme, r.Out.URL.Host = "http", address }}
	pass.ServeHTTP(w, r)
}

// tunnel joins the connection to one to the address.
func tunnel(w http.ResponseWriter, address string) {
	server, err := net.Dial("tcp", address)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	defer server.Close()
	client, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	defer client.Close()
	if _, err := io.WriteString(client, "HTTP/1.1 200 OK\r\n\r\n"); err != nil {
		return
	}
	go func() {
		_, _ = io.Copy(server, client) // the end of either ends both
		server.Close()
	}()
	_, _ = io.Copy(client, server)
}
