package main

import (
	"io"
	"os"
	"regexp"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// TestComposeNodes checks that the nodes of docker-compose.yml have flags that
// this program takes, and that they and the load balancer agree on addresses.
func TestComposeNodes(t *testing.T) {
	t.Parallel()
	data, err := os.ReadFile("../../docker-compose.yml")
	if err != nil {
		t.Fatal(err)
	}
	balancer, err := os.ReadFile("haproxy.cfg")
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Services map[string]struct {
			Command     []string
			Environment map[string]string
			Ports       []string
		}
	}
	if err := yaml.Unmarshal(data, &file); err != nil {
		t.Fatal(err)
	}
	node := func(name, provider string) config {
		service := file.Services[name]
		if len(service.Command) == 0 || service.Command[0] != "/app/webapp" {
			t.Fatalf("%s runs %q", name, service.Command)
		}
		env := func(key string) string {
			if key == "COATCHECK_PROVIDER" && provider != "" && strings.HasPrefix(service.Environment[key], "${COATCHECK_PROVIDER:-") {
				return provider
			}
			return regexp.MustCompile(`\$\{\w+:-(\w+)\}`).ReplaceAllString(service.Environment[key], "$1")
		}
		c, err := parseConfig(service.Command[1:], env, io.Discard)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		return c
	}
	for _, name := range []string{"node1", "node2"} {
		if c := node(name, inPostgres); c.provider != inPostgres {
			t.Errorf("%s has the provider %s, and PostgreSQL was asked for", name, c.provider)
		}
	}
	one, two := node("node1", ""), node("node2", "")
	if one.url != two.url || one.addr == two.addr || one.keysFile != two.keysFile || one.provider != inRedis || one.provider != two.provider ||
		one.redisURL != two.redisURL || one.postgresURL != two.postgresURL {
		t.Errorf("the nodes are %s at %s and %s at %s", one.url, one.addr, two.url, two.addr)
	}
	if two.issuer != "http://"+one.idpAddr || one.issuer != "" {
		t.Errorf("the issuers are %q and %q, and the identity server is at %s", one.issuer, two.issuer, one.idpAddr)
	}
	o, err := parseRedisURL(one.redisURL)
	if err != nil {
		t.Fatal(err)
	}
	p, err := parsePostgresURL(one.postgresURL)
	if err != nil {
		t.Fatal(err)
	}
	// Browsers use the published addresses, and so does node 2 for the issuer.
	ports := strings.Join(file.Services["balancer"].Ports, "\n")
	for _, published := range []string{strings.TrimPrefix(one.url, "http://"), one.idpAddr} {
		match := regexp.MustCompile(regexp.QuoteMeta(published) + `:(\d+)`).FindStringSubmatch(ports)
		if match == nil || !strings.Contains(string(balancer), "bind :"+match[1]+"\n") {
			t.Errorf("%s is not published, or the load balancer does not listen there: %q", published, ports)
		}
	}
	for _, address := range []string{one.addr + " check", two.addr + " check", one.idpAddr + "\n"} {
		if !regexp.MustCompile(`\n +server node\d ` + regexp.QuoteMeta(address)).Match(balancer) {
			t.Errorf("the load balancer does not know %s", address)
		}
	}
	for _, address := range []string{o.Addr, addressOf(&p.ConnConfig.Config)} {
		if !strings.Contains(string(balancer), "bind "+address+"\n") {
			t.Errorf("the load balancer does not lead to Redis or PostgreSQL at %s", address)
		}
	}
	if !regexp.MustCompile(`\n +retry-on conn-failure\b`).Match(balancer) {
		t.Error("the load balancer may send a request twice")
	}
}
