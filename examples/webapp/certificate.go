package main

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

const (
	pemCertificate = "CERTIFICATE"
	// maxCertificates bounds a file of certificates. The bundles of operating systems
	// are a quarter of it.
	maxCertificates = 1 << 20
)

// readRoots returns the certificates of a file, or nil if there is none.
func readRoots(path string) (*x509.CertPool, error) {
	if path == "" {
		return nil, nil //nolint:nilnil // those of the machine
	}
	data, err := readCertificates(path)
	if err != nil {
		return nil, fmt.Errorf("-issuer-ca: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(data) {
		return nil, fmt.Errorf("-issuer-ca %q: there is no certificate (PEM) in the file", path)
	}
	return pool, nil
}

// writeCertificate puts a certificate into a file in one step, over that of the last
// start. A file of another kind, such as one of keys, is left alone.
func writeCertificate(path string, c *x509.Certificate) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("-idp-cert-file: %w", err)
		}
	}()
	if err := checkReplaceable(path); err != nil {
		return err
	}
	file, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	err = errors.Join(pem.Encode(file, &pem.Block{Type: pemCertificate, Bytes: c.Raw}), file.Close())
	if err == nil {
		err = os.Rename(file.Name(), path) // #nosec G703 -- the flag says which
	}
	if err != nil {
		err = errors.Join(err, os.Remove(file.Name())) // #nosec G703 -- made above
	}
	return err
}

// checkReplaceable refuses to write over anything but a certificate.
func checkReplaceable(path string) error {
	info, err := os.Stat(path) // #nosec G703 -- the flag says which
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var old []byte
	if info.Mode().IsRegular() {
		if old, err = readCertificates(path); err != nil {
			return err
		}
	}
	if block, _ := pem.Decode(old); block == nil || block.Type != pemCertificate {
		return fmt.Errorf("%q is there, and is not a certificate", path)
	}
	return nil
}

func readCertificates(path string) ([]byte, error) {
	file, err := os.Open(path) // #nosec G304 G703 -- the flag says which
	if err != nil {
		return nil, err
	}
	data, err := io.ReadAll(io.LimitReader(file, maxCertificates+1))
	if err == nil && len(data) > maxCertificates {
		err = fmt.Errorf("%q is too large", path)
	}
	return data, errors.Join(err, file.Close())
}
