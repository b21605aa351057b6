"""Which regions and pages a process serves, by its settings.

True here: what is wrong with a file is said before anything runs. Never here: an invented region in production.
"""

from service import pages, regions
from service.config import Config
from service.locale import catalogue
from service.pages import Pages
from service.regions import Regions
from service.sandbox.invention import is_invented_region
from service.starting import StartError
from service.strict_toml import FaultyFileError


def load_policy(config: Config) -> tuple[Regions, Pages]:
    """Regions and pages. Raises StartError for a file that cannot be used, or a region that is not for production."""
    try:
        catalogue()
        served = Regions.load_directory(config.regions_dir or regions.SHIPPED)
        flow = Pages.load(pages.SHIPPED)
    except FaultyFileError as error:
        raise StartError(str(error)) from None
    if config.default_region not in served.by_code:
        raise StartError("YIKA_DEFAULT_REGION: there is no such region")
    if not config.sandbox and any(is_invented_region(region.code) for region in served):
        raise StartError("YIKA_REGIONS_DIR: an invented region is not for production")
    return served, flow
