package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// leeway is for how long docker-registry takes a token that has expired.
const leeway = time.Minute

// issuer grants whatever it is asked for to one user, see
// https://distribution.github.io/distribution/spec/auth/token/
type issuer struct {
	key         *ecdsa.PrivateKey
	cert        []byte
	credentials string
	life        time.Duration
	says        int
}

// newIssuer makes a key, and its certificate in cert.pem.
func newIssuer(dir, credentials string, life time.Duration, says int) (*issuer, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "tokens"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	file := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert})
	if err := os.WriteFile(filepath.Join(dir, "cert.pem"), file, 0o644); err != nil {
		return nil, err
	}
	return &issuer{key, cert, credentials, life, says}, nil
}

// ServeHTTP answers a request for a token and prints the token.
func (i *issuer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	user, password, _ := r.BasicAuth()
	if user+":"+password != i.credentials {
		http.Error(w, `{"errors":[{"code":"UNAUTHORIZED","message":"wrong user or password"}]}`, http.StatusUnauthorized)
		return
	}
	token, err := i.token(user, r.URL.Query().Get("service"), r.URL.Query()["scope"])
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	say("%s", token)
	answer := map[string]any{"token": token}
	if i.says != 0 {
		answer["expires_in"] = i.says
	}
	_ = json.NewEncoder(w).Encode(answer) // a client that is gone needs none
}

// token signs what the scopes ask for, such as repository:app:pull,push.
func (i *issuer) token(user, service string, scopes []string) (string, error) {
	var access []map[string]any
	for _, scope := range scopes {
		kind, rest, _ := strings.Cut(scope, ":")
		at := max(strings.LastIndexByte(rest, ':'), 0)
		actions := strings.Split(strings.TrimPrefix(rest[at:], ":"), ",")
		access = append(access, map[string]any{"type": kind, "name": rest[:at], "actions": actions})
	}
	now := time.Now()
	header, err := json.Marshal(map[string]any{"typ": "JWT", "alg": "ES256", "x5c": []string{base64.StdEncoding.EncodeToString(i.cert)}})
	if err != nil {
		return "", err
	}
	claims, err := json.Marshal(map[string]any{
		"iss": "netserver", "sub": user, "aud": service, "access": access, "jti": rand.Text(),
		// Whole seconds are cut off.
		"iat": now.Unix(), "nbf": now.Add(-2 * leeway).Unix(), "exp": now.Add(i.life-leeway).Unix() + 1,
	})
	if err != nil {
		return "", err
	}
	encode := base64.RawURLEncoding.EncodeToString
	signed := encode(header) + "." + encode(claims)
	sum := sha256.Sum256([]byte(signed))
	a, b, err := ecdsa.Sign(rand.Reader, i.key, sum[:])
	if err != nil {
		return "", fmt.Errorf("signing: %w", err)
	}
	var signature [64]byte
	a.FillBytes(signature[:32])
	b.FillBytes(signature[32:])
	return signed + "." + encode(signature[:]), nil
}
