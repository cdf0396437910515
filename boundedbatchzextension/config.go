package boundedbatchzextension

import (
	"fmt"
	"net"
	"strconv"
)

// Config is the configuration of the boundedbatchz extension.
type Config struct {
	// Endpoint is where the page is served, a host and a port. Default localhost:55689. Whoever can connect to it sees the
	// page: there is no TLS and no authentication. With port 0 the system picks one, which is logged.
	Endpoint string `mapstructure:"endpoint"`

	// ShowMetadataValues shows the values of metadata_keys and resource_keys. Default false: in place of each there is a
	// short name, which is the same for the same value until the Collector ends.
	ShowMetadataValues bool `mapstructure:"show_metadata_values"`
}

const defaultEndpoint = "localhost:55689"

// Validate implements xconfmap.Validator.
func (c *Config) Validate() error {
	host, port, err := net.SplitHostPort(c.Endpoint)
	if err != nil {
		return fmt.Errorf("endpoint: %q is no host with a port; accepted is for instance %s", c.Endpoint, defaultEndpoint)
	}
	if host == "" {
		return fmt.Errorf("endpoint: %q has no host; accepted are localhost:%s, and 0.0.0.0:%[2]s for all interfaces", c.Endpoint, port)
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return fmt.Errorf("endpoint: the port of %q is no number from 0 to 65535", c.Endpoint)
	}
	return nil
}
