package idp

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"net"
	"os"
	"time"
)

// certificateLifetime is far more than a test and less than browsers refuse.
const certificateLifetime = 90 * 24 * time.Hour

// Certificate is the certificate of a server with [Options.TLS], and nil without.
// It is made when the server starts, is good for 127.0.0.1, [::1], localhost and
// the address listened on, for 90 days, and signs no other certificate.
func (s *Server) Certificate() *x509.Certificate { return s.certificate }

// CertPool is a pool with the [Server.Certificate] alone, for a client's
// [tls.Config.RootCAs]. Without [Options.TLS] it is nil, which means the
// authorities of the machine there.
func (s *Server) CertPool() *x509.CertPool {
	if s.certificate == nil {
		return nil
	}
	pool := x509.NewCertPool()
	pool.AddCert(s.certificate)
	return pool
}

// newCertificate makes a key and signs its certificate with it.
func newCertificate(ip net.IP) (*tls.Config, *x509.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, fmt.Errorf("idp: generate TLS key: %w", err)
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, nil, fmt.Errorf("idp: number certificate: %w", err)
	}
	template := &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: "local identity provider"},
		DNSNames:     []string{"localhost"},
		IPAddresses:  []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback, ip},
		NotBefore:    time.Now().Add(-time.Hour), // a client's clock may be late
		NotAfter:     time.Now().Add(certificateLifetime),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},

		BasicConstraintsValid: true, // and not an authority
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, nil, fmt.Errorf("idp: make certificate: %w", err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, nil, fmt.Errorf("idp: make certificate: %w", err)
	}
	config := &tls.Config{
		Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key, Leaf: cert}},
		MinVersion:   tls.VersionTLS12,
	}
	return config, cert, nil
}

// errorLog writes what net/http has to tell to the standard error stream, but for the
// handshakes that a browser breaks off to ask about the certificate.
type errorLog struct{}

func (errorLog) Write(line []byte) (int, error) {
	if bytes.Contains(line, []byte("TLS handshake error")) {
		return len(line), nil
	}
	return os.Stderr.Write(line)
}
