"""`python -m router [--config FILE]`."""

from router.config import ENVIRONMENT, RouterConfig
from router.servicer import Router
from services.common.server import launch

launch("router", "router.yaml", RouterConfig, lambda config, _: Router(config), ENVIRONMENT)
