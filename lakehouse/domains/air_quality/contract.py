"""What is one message of `air-quality.hourly.v1`? The air of one place in one hour, as the source reported it at one time."""

from typing import Literal

from lakehouse.contract import Contract, Field

# The editions of the index that `aqi.py` knows.
AqiRuleName = Literal["us-epa-2024", "us-epa-2012"]

TOPIC = "air-quality.hourly.v1"

# Named as Open-Meteo names them -> named as weir's columns are. Order: the ten measures, then the source's own indices.
MEASURES = {
    "pm2_5": "pm25",
    "pm10": "pm10",
    "ozone": "o3",
    "nitrogen_dioxide": "no2",
    "sulphur_dioxide": "so2",
    "carbon_monoxide": "co",
    "aerosol_optical_depth": "aod",
    "dust": "dust",
    "uv_index": "uv_index",
    "carbon_dioxide": "co2",
}
PROVIDER_INDICES = {
    "us_aqi": "us_aqi",
    "us_aqi_pm2_5": "us_aqi_pm25",
    "us_aqi_pm10": "us_aqi_pm10",
    "us_aqi_nitrogen_dioxide": "us_aqi_no2",
    "us_aqi_ozone": "us_aqi_o3",
    "us_aqi_sulphur_dioxide": "us_aqi_so2",
    "us_aqi_carbon_monoxide": "us_aqi_co",
}
VARIABLES = MEASURES | PROVIDER_INDICES

# The upper bounds lie far above what has been measured anywhere (dust storms, fires, volcanoes): they catch broken units
# and fill values such as 9999 or 1e20, not bad air.
HOURLY = Contract(
    topic=TOPIC,
    entity=("location_key",),
    key=("location_key", "ts_utc"),
    version="retrieved_ts",
    event_time="ts_utc",
    fields=(
        Field("location_key", "string", required=True, about="the place: `location_key` in locations.jsonl"),
        Field("ts_utc", "timestamp", required=True, about="start of the hour; event time"),
        Field("latitude", "double", about="centre of the model's cell that answered", unit="°", low=-90, high=90),
        Field("longitude", "double", about="centre of the model's cell that answered", unit="°", low=-180, high=180),
        Field("pm25", "double", about="particles up to 2.5 µm", unit="µg/m³", low=0, high=1_000),
        Field("pm10", "double", about="particles up to 10 µm", unit="µg/m³", low=0, high=10_000),
        Field("o3", "double", about="ozone", unit="µg/m³", low=0, high=2_000),
        Field("no2", "double", about="nitrogen dioxide", unit="µg/m³", low=0, high=5_000),
        Field("so2", "double", about="sulphur dioxide", unit="µg/m³", low=0, high=10_000),
        Field("co", "double", about="carbon monoxide", unit="µg/m³", low=0, high=100_000),
        Field("aod", "double", about="aerosol optical depth at 550 nm", low=0, high=50),
        Field("dust", "double", about="Saharan and other mineral dust", unit="µg/m³", low=0, high=20_000),
        Field("uv_index", "double", about="ultraviolet index", low=0, high=50),
        Field("co2", "double", about="carbon dioxide", unit="ppm", low=0, high=5_000),
        Field("us_aqi", "double", about="the source's own US AQI", low=0, high=10_000),
        Field("us_aqi_pm25", "double", about="the source's own sub-index of PM2.5", low=0, high=10_000),
        Field("us_aqi_pm10", "double", about="the source's own sub-index of PM10", low=0, high=10_000),
        Field("us_aqi_no2", "double", about="the source's own sub-index of NO2", low=0, high=10_000),
        Field("us_aqi_o3", "double", about="the source's own sub-index of ozone", low=0, high=10_000),
        Field("us_aqi_so2", "double", about="the source's own sub-index of SO2", low=0, high=10_000),
        Field("us_aqi_co", "double", about="the source's own sub-index of CO", low=0, high=10_000),
        Field("model_domain", "string", about="the source's model, such as cams_global"),
        Field("request_timezone", "string", about="the zone that the answer was given in; hours are converted to UTC"),
        Field("retrieved_ts", "timestamp", required=True, about="when the source answered; the greater wins"),
    ),
)
